// A tap as a port of Open vSwitch, by its database: added, bound by OVN, removed, found again.

import { OvsError } from '../errors.ts'
import { checkIfname } from '../host/ifname.ts'
import { mtuStep, tapMacStep, upStep } from './link-steps.ts'
import { awaitBinding } from './ovn.ts'
import { checkOvsOptions, type OvsOptions } from './ovs-options.ts'
import { arePortRows, type FoundPort, ofportOf, ownersName, type PortRows, tapRows } from './ovs-rows.ts'
import { OvsSwitch } from './ovs-switch.ts'
import { checkDatabase, type Database, type OvsdbOptions } from './ovsdb/options.ts'
import type { Operation } from './ovsdb/transaction.ts'
import { entries, namedUuid, optional, set, uuid } from './ovsdb/values.ts'
import { describeOwner, hasEnded, ownMark, PERSISTENT } from './owner.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import type { Step, Undo } from './step.ts'

export type { OvsOptions } from './ovs-options.ts'
export type { OvsdbOptions, OvsdbTls } from './ovsdb/options.ts'

/**
 * The steps that make a link a port of a switch: nothing is done yet.
 *
 * The port is added where it is not there yet. A port of that name is left alone if it is just as asked and in the same
 * bridge, replaced if it is this process's, persistent, or of a process that has ended, and refused otherwise. What ended
 * processes have left in the switch under other names is removed, too.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 * @see applying it throws {OvsdbError} and {OvsError}
 */
export async function planOvs(link: PluggedLink, options: OvsOptions): Promise<Step[]> {
  const { ifname, mac, mtu } = checkLink(link)
  const checked = checkOvsOptions(options)
  const owner = checked.persistent === true ? PERSISTENT : ownMark()
  const rows = tapRows(link, checked, owner)
  const port: Step = {
    text: `add port '${ifname}' to bridge '${checked.bridge}' of Open vSwitch${describe(link, checked)}`,
    apply: () => addPort(ifname, checked.bridge, rows, owner, checked),
  }
  const steps = [tapMacStep(ifname, mac)]
  // The switch sets it, too, and again whenever somebody changes it; but it would not put the former one back.
  if (mtu !== undefined) steps.push(mtuStep(ifname, `set the MTU of '${ifname}' to ${mtu}`, () => mtu))
  steps.push(port, upStep(ifname))
  if (checked.ovn !== true) return steps
  const binding: Step = {
    text: `wait until OVN has bound '${checked.ifaceId}' to port '${ifname}'`,
    async apply() {
      await OvsSwitch.with(checked, (ovs) => awaitBinding(ovs, ifname))
      return undefined
    },
  }
  return [...steps, binding]
}

function describe({ mac, mtu }: PluggedLink, options: OvsOptions): string {
  const { ifaceId, vmId, portProfile, tag, trunks, vlanMode, ingressPolicingRate, ingressPolicingBurst } = options
  const words = {
    tag,
    trunks: trunks?.join(','),
    vlan_mode: vlanMode,
    mtu_request: mtu,
    'attached-mac': mac,
    'iface-id': ifaceId,
    'vm-id': vmId,
    'port-profile': portProfile,
    ingress_policing_rate: ingressPolicingRate,
    ingress_policing_burst: ingressPolicingBurst,
  }
  const given = Object.entries(words).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]))
  return `: ${given.join(' ')}`
}

/** @internal Makes a port of one interface; see {@link planOvs} for what becomes of one that is there. */
export async function addPort(
  ifname: string,
  bridge: string,
  rows: PortRows,
  owner: string,
  database: Database,
): Promise<Undo | undefined> {
  return await OvsSwitch.with(database, async (ovs) => {
    const change = await ovs.change(() => toAdd(ovs, ifname, bridge, rows, owner))
    if (change === undefined) {
      await ovs.opened(ifname)
      return undefined
    }
    try {
      await ovs.done(change)
      await ovs.opened(ifname)
    } catch (error) {
      throw await takenBack(error, ifname, owner, database)
    }
    return () => removePort(ifname, owner, database)
  })
}

function toAdd(ovs: OvsSwitch, ifname: string, bridge: string, rows: PortRows, owner: string): Operation[] | undefined {
  const [bridgeId] = ovs.bridge(bridge)
  if (ovs.hasBridge(ifname)) throw taken(ifname, ifname, 'is a bridge')
  const there = ovs.port(ifname)
  if (there !== undefined) {
    const ended = there.owner !== undefined && hasEnded(there.owner, ovs.isLocal)
    const elsewhere = there.bridge?.name !== bridge
    if (!ended) {
      if (elsewhere) throw taken(ifname, there.bridge?.name ?? '', whose(there))
      if (arePortRows(there, rows)) return undefined
      if (there.owner !== owner && there.owner !== PERSISTENT) throw taken(ifname, bridge, whose(there))
    }
  }
  return [...toRemoveAll(leftOver(ovs, ifname)), ...toInsert(bridgeId, rows)]
}

const whose = (port: FoundPort): string =>
  port.owner === undefined ? `is of ${ownersName(port)}` : `is of ${describeOwner(port.owner)}`

const taken = (ifname: string, bridge: string, of: string): OvsError =>
  new OvsError('ERR_OVS_TAKEN', `port '${ifname}' of bridge '${bridge}' ${of}`, {
    hint: `Choose another name, or, if nobody needs it: ovs-vsctl del-port ${ifname}`,
    context: { ifname, bridge },
  })

/** The port that is to be replaced, and all those of processes that have ended. */
const leftOver = (ovs: OvsSwitch, ifname: string): FoundPort[] =>
  ovs.ports().filter(({ name, owner }) => name === ifname || (owner !== undefined && hasEnded(owner, ovs.isLocal)))

const toInsert = (bridge: string, { port, interface: row }: PortRows): Operation[] => [
  { op: 'insert', table: 'Interface', row, 'uuid-name': 'interface' },
  { op: 'insert', table: 'Port', row: { ...port, interfaces: namedUuid('interface') }, 'uuid-name': 'port' },
  {
    op: 'mutate',
    table: 'Bridge',
    where: [['_uuid', '==', uuid(bridge)]],
    mutations: [['ports', 'insert', set([namedUuid('port')])]],
  },
]

/** A port and its interface go when no bridge has the port: the server collects them. */
const toRemoveAll = (ports: readonly FoundPort[]): Operation[] =>
  ports.flatMap(({ id, bridge }) =>
    bridge === undefined
      ? []
      : [
          {
            op: 'mutate',
            table: 'Bridge',
            where: [['_uuid', '==', uuid(bridge.id)]],
            mutations: [['ports', 'delete', set([uuid(id)])]],
          },
        ],
  )

function toRemove(ovs: OvsSwitch, ifname: string, owner: string): Operation[] | undefined {
  const port = ovs.port(ifname)
  return port === undefined || port.owner !== owner ? undefined : toRemoveAll([port])
}

/** Removes what was half made, in time of its own: a switch that does not run does not hinder it. */
async function takenBack(error: unknown, ifname: string, owner: string, database: Database): Promise<unknown> {
  try {
    await OvsSwitch.with(database, (ovs) => ovs.change(() => toRemove(ovs, ifname, owner)))
    return error
  } catch (further) {
    return new AggregateError([error, further], `${String(error)} (and the port could not be removed)`)
  }
}

async function removePort(ifname: string, owner: string, database: Database): Promise<void> {
  await OvsSwitch.with(database, async (ovs) => {
    const change = await ovs.change(() => toRemove(ovs, ifname, owner))
    if (change !== undefined) await ovs.done(change)
  })
}

/**
 * Removes a port that this package has made: a persistent one, this process's, or that of a process that has ended.
 * @returns whether there was one.
 * @throws {OvsError} `ERR_OVS_TAKEN`: it is of somebody else. `ERR_OVS_TIMEOUT`: the switch has not let go of it
 * @throws {OvsdbError}
 */
export async function unplugOvs(ifname: string, options: OvsdbOptions = {}): Promise<boolean> {
  checkIfname(ifname)
  return await OvsSwitch.with(checkDatabase(options), async (ovs) => {
    const change = await ovs.change(() => {
      const port = ovs.port(ifname)
      if (port === undefined) return undefined
      const { owner } = port
      const isOurs =
        owner === PERSISTENT || owner === ownMark() || (owner !== undefined && hasEnded(owner, ovs.isLocal))
      if (!isOurs) throw taken(ifname, port.bridge?.name ?? '', whose(port))
      return toRemoveAll([port])
    })
    if (change === undefined) return false
    await ovs.done(change)
    return true
  })
}

/** A port of a switch, as its database has it. */
export interface OvsPort {
  readonly ifname: string
  readonly bridge: string
  /** `external_ids` of the interface: `iface-id`, `attached-mac`, … */
  readonly externalIds: Readonly<Record<string, string>>
  readonly tag: number | undefined
  /** Its number in OpenFlow. Undefined: the switch has not opened it; -1: it could not. */
  readonly ofport: number | undefined
  readonly error: string | undefined
  /** Whose it is: a process of this package, nobody's in particular (`persistent`), or of an ended process. */
  readonly owner: 'this process' | 'another process' | 'an ended process' | 'persistent' | undefined
  /** Counters of the link, in the switch's words: `rx_packets`, … They are some seconds old. */
  readonly statistics: Readonly<Record<string, number>>
}

/**
 * The ports of a switch by their names, those that this package has not made among them: they have no `owner`.
 * @throws {OvsdbError}
 */
export async function listOvsPorts(options: OvsdbOptions = {}): Promise<OvsPort[]> {
  return await OvsSwitch.with(checkDatabase(options), async (ovs) => {
    const [result] = await ovs.read([{ op: 'select', table: 'Interface', where: [], columns: ['name', 'statistics'] }])
    const statistics = new Map((result?.rows ?? []).map((row) => [row.name, entries(row.statistics)]))
    const ports = ovs.ports().sort((a, b) => (a.name < b.name ? -1 : 1))
    return ports.map((port) => ({
      ifname: port.name,
      bridge: port.bridge?.name ?? '',
      externalIds: { ...entries(port.interface.external_ids) } as Record<string, string>,
      tag: optional(port.port.tag) as number | undefined,
      ofport: ofportOf(port.interface),
      error: optional(port.interface.error) as string | undefined,
      owner: relation(port.owner, ovs.isLocal),
      statistics: { ...statistics.get(port.name) } as Record<string, number>,
    }))
  })
}

function relation(owner: string | undefined, isLocal: boolean): OvsPort['owner'] {
  if (owner === undefined) return undefined
  if (owner === PERSISTENT) return PERSISTENT
  if (owner === ownMark()) return 'this process'
  return hasEnded(owner, isLocal) ? 'an ended process' : 'another process'
}
