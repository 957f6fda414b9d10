// OVN: a port is bound to the logical port that its iface-id names, by ovn-controller on this host. ovn-controller(8).

import { OvsError, VhostNetError } from '../errors.ts'
import type { OvsSwitch } from './ovs-switch.ts'
import { OvsdbClient } from './ovsdb/client.ts'
import { entries, optional, references } from './ovsdb/values.ts'

const DATABASE = 'OVN_Southbound'

/**
 * Resolves when ovn-controller has bound a port and its flows are in the switch: `external_ids:ovn-installed`.
 * @throws {OvsError} `ERR_OVN_UNBOUND`: not in time, with what is missing
 */
export async function awaitBinding(ovs: OvsSwitch, ifname: string): Promise<void> {
  const isInstalled = (): true | undefined => {
    const row = ovs.port(ifname)?.interface
    if (row === undefined) throw new OvsError('ERR_OVS_PORT', `somebody has removed port '${ifname}'`)
    return entries(row.external_ids)['ovn-installed'] === 'true' || undefined
  }
  try {
    await ovs.until(isInstalled)
  } catch (error) {
    if (!(error instanceof OvsError) || error.code !== 'ERR_OVS_TIMEOUT') throw error
    const ifaceId = String(entries(ovs.port(ifname)?.interface.external_ids)['iface-id'])
    const { problem, hint } = await missing(ovs, ifname, ifaceId)
    const within = `OVN has not bound '${ifaceId}' to port '${ifname}' within ${ovs.database.timeoutMs} ms`
    throw new OvsError('ERR_OVN_UNBOUND', `${within}: ${problem}`, { hint, context: { ifname, ifaceId }, cause: error })
  }
}

interface Missing {
  readonly problem: string
  readonly hint: string
}

/** What stands between a port and its binding, from the nearest to the farthest. */
async function missing(ovs: OvsSwitch, ifname: string, ifaceId: string): Promise<Missing> {
  const settings = entries(ovs.root.external_ids)
  for (const key of ['system-id', 'ovn-remote', 'ovn-encap-type', 'ovn-encap-ip']) {
    if (settings[key] !== undefined) continue
    const problem = `ovn-controller has no external_ids:${key}`
    return { problem, hint: `ovs-vsctl set open_vswitch . external-ids:${key}=…; see ovn-controller(8).` }
  }
  const integration = String(settings['ovn-bridge'] ?? 'br-int')
  const bridge = ovs.port(ifname)?.bridge?.name
  if (bridge !== integration) {
    const problem = `the port is in bridge '${bridge}', and ovn-controller looks at '${integration}' only`
    return { problem, hint: `Plug it into ${integration}.` }
  }
  // With several, or on a way that takes keys, it is left to the administrator.
  const remote = String(settings['ovn-remote'])
  try {
    return await askSouthbound(remote, ovs.database.timeoutMs, String(settings['system-id']), ifaceId)
  } catch (error) {
    if (!VhostNetError.is(error)) throw error
    // A remedy that it tells below is for a switch's own database.
    const [why] = error.message.split('\n')
    const problem = `its southbound database cannot be asked why: ${why}`
    return { problem, hint: 'Is ovn-central running, and ovn-controller on this host? ovn-sbctl show' }
  }
}

async function askSouthbound(db: string, timeoutMs: number, chassis: string, ifaceId: string): Promise<Missing> {
  const client = await OvsdbClient.connect({ db, timeoutMs })
  const asked = client.transact(DATABASE, [
    { op: 'select', table: 'Chassis', where: [], columns: ['_uuid', 'name', 'hostname'] },
    {
      op: 'select',
      table: 'Port_Binding',
      where: [['logical_port', '==', ifaceId]],
      columns: ['chassis', 'up', 'options'],
    },
  ])
  const [all, bindings] = await asked.finally(() => client.close())
  const ours = all?.rows?.find(({ name }) => name === chassis)
  const binding = bindings?.rows?.[0]
  if (binding === undefined) {
    const problem = `OVN has no logical port '${ifaceId}'`
    return { problem, hint: `ovn-nbctl lsp-add SWITCH ${ifaceId}; and is ovn-northd running?` }
  }
  const hint = 'Is ovn-controller running on this host? systemctl status ovn-controller, and its log.'
  if (ours === undefined) return { problem: `no ovn-controller is known as '${chassis}'`, hint }
  const [bound] = references(binding.chassis)
  const name = all?.rows?.find((row) => references(row._uuid)[0] === bound)?.name
  const requested = String(entries(binding.options)['requested-chassis'] ?? '')
  // One or several, by name or by host: ovn-nb(5).
  if (requested !== '' && !requested.split(',').some((each) => each === chassis || each === ours.hostname)) {
    const where = bound === undefined ? '' : `, and bound on '${name}'`
    const problem = `it is for '${requested}' only${where}`
    return {
      problem,
      hint: `Plug it in there, or: ovn-nbctl set Logical_Switch_Port ${ifaceId} options:requested-chassis=${chassis}`,
    }
  }
  if (bound === undefined) return { problem: `ovn-controller '${chassis}' has not claimed it`, hint }
  if (name !== chassis) return { problem: `it is bound on '${name}'`, hint: 'It may be plugged in there, too.' }
  return {
    problem: optional(binding.up) === true ? 'its flows are not in the switch' : 'it is bound, but not up',
    hint,
  }
}
