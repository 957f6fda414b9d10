// The rows of a port: what stands in the database of a switch for what was asked. ovs-vswitchd.conf.db(5).

import type { OvsOptions } from './ovs-options.ts'
import { entries, map, optional, type Row, references, set, type Value } from './ovsdb/values.ts'
import { OWNER_KEY } from './owner.ts'
import type { PluggedLink } from './plugged-link.ts'

/** What is kept of the switch's database while something is changed in it. */
export const COLUMNS = {
  Open_vSwitch: ['cur_cfg', 'next_cfg', 'external_ids'],
  Bridge: ['name', 'ports', 'external_ids'],
  Port: ['name', 'interfaces', 'tag', 'trunks', 'vlan_mode', 'other_config', 'external_ids'],
  Interface: [
    'name',
    'type',
    'options',
    'ofport',
    'error',
    'status',
    'external_ids',
    'ingress_policing_rate',
    'ingress_policing_burst',
    'mtu_request',
  ],
} as const

/** A port of one interface. */
export interface PortRows {
  readonly port: Row
  readonly interface: Row
}

const optionalValue = (value: string | number | undefined): Value => (value === undefined ? set([]) : value)

/** A tap's, as libvirt writes it (virNetDevOpenvswitchAddPort), and whose it is. */
export function tapRows(link: PluggedLink, options: OvsOptions, owner: string): PortRows {
  const { ifname, mac, mtu } = link
  const { ifaceId, vmId, portProfile, tag, trunks = [], vlanMode } = options
  const { ingressPolicingRate = 0, ingressPolicingBurst = 0, persistent = false } = options
  const ids = {
    'attached-mac': mac,
    ...(ifaceId === undefined ? {} : { 'iface-id': ifaceId }),
    ...(vmId === undefined ? {} : { 'vm-id': vmId }),
    ...(portProfile === undefined ? {} : { 'port-profile': portProfile }),
    'iface-status': 'active',
  }
  return {
    port: {
      name: ifname,
      tag: optionalValue(tag),
      trunks: set([...trunks].sort((a, b) => a - b)),
      vlan_mode: optionalValue(vlanMode),
      // The switch's start removes it: after a reboot there is no such tap.
      other_config: map(persistent ? {} : { transient: 'true' }),
      external_ids: map({ [OWNER_KEY]: owner }),
    },
    interface: {
      name: ifname,
      type: '',
      ingress_policing_rate: ingressPolicingRate,
      ingress_policing_burst: ingressPolicingBurst,
      mtu_request: optionalValue(mtu),
      external_ids: map(ids),
    },
  }
}

const isMap = (value: Value): boolean => Array.isArray(value) && value[0] === 'map'

/** One spelling of each value. */
function spelled(value: Value | undefined): string {
  if (!Array.isArray(value) || value[0] !== 'set') return JSON.stringify(value)
  return value[1].length === 1
    ? JSON.stringify(value[1][0])
    : JSON.stringify([...value[1]].map((each) => JSON.stringify(each)).sort())
}

/** Whether a row is as wanted; in a map others may have put more. */
function isAsWanted(row: Row, wanted: Row): boolean {
  return Object.entries(wanted).every(([column, value]) => {
    if (!isMap(value)) return spelled(row[column]) === spelled(value)
    const found = entries(row[column])
    return Object.entries(entries(value)).every(([key, each]) => key === OWNER_KEY || found[key] === each)
  })
}

/** Whether a port there is is just as wanted, whoever made it. */
export const arePortRows = (there: PortRows, wanted: PortRows): boolean =>
  isAsWanted(there.port, wanted.port) && isAsWanted(there.interface, wanted.interface)

/** A port that the switch has. */
export interface FoundPort extends PortRows {
  readonly id: string
  readonly interfaceId: string
  readonly name: string
  /** Undefined where no bridge has it, which lasts no longer than a transaction. */
  readonly bridge: { readonly id: string; readonly name: string } | undefined
  /** The mark of who made it. */
  readonly owner: string | undefined
}

type RowsOf = (table: string) => [id: string, row: Row][]

/** All ports of one interface. */
export function findPorts(rows: RowsOf): FoundPort[] {
  const bridges = new Map<string, { id: string; name: string }>()
  for (const [id, row] of rows('Bridge'))
    for (const port of references(row.ports)) bridges.set(port, { id, name: String(row.name) })
  const interfaces = new Map(rows('Interface'))
  return rows('Port').flatMap(([id, port]) => {
    const interfaceId = references(port.interfaces)[0] ?? ''
    const owner = entries(port.external_ids)[OWNER_KEY]
    const row = interfaces.get(interfaceId)
    return row === undefined
      ? []
      : [
          {
            id,
            interfaceId,
            name: String(port.name),
            bridge: bridges.get(id),
            owner: owner === undefined ? undefined : String(owner),
            port,
            interface: row,
          },
        ]
  })
}

/** Who a port is of, for a message: what those leave on it who use Open vSwitch. */
export function ownersName(port: FoundPort): string {
  const ids = entries(port.interface.external_ids)
  const known = ['vm-id', 'iface-id', 'attached-mac'].filter((key) => ids[key] !== undefined)
  return known.length === 0 ? 'somebody who left no name' : known.map((key) => `${key} ${ids[key]}`).join(', ')
}

/** Why the switch could not open it. */
export const errorOf = (row: Row): string | undefined => {
  const error = optional(row.error)
  return error === undefined || error === '' ? undefined : String(error)
}

/** Its OpenFlow port, once it has one. */
export const ofportOf = (row: Row): number | undefined => {
  const ofport = optional(row.ofport)
  return ofport === undefined ? undefined : Number(ofport)
}
