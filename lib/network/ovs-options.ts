// A port of Open vSwitch as it is asked for: OVS's own words, in camelCase, and which values they take.

import { InvalidOptionError } from '../errors.ts'
import { checkIfname } from '../host/ifname.ts'
import { checkBoolean, checkInteger, checkObject, checkString } from '../options.ts'
import { checkDatabase, DATABASE_KEYS, type Database, type OvsdbOptions } from './ovsdb/options.ts'

export const VLAN_MODES = ['access', 'trunk', 'native-tagged', 'native-untagged', 'dot1q-tunnel'] as const

/** A port of Open vSwitch: see ovs-vswitchd.conf.db(5), tables Port and Interface. */
export interface OvsOptions extends OvsdbOptions {
  /** The bridge: `br-int`. It must exist. */
  readonly bridge: string
  /** `external_ids:iface-id`: by it OVN and Neutron know the port. */
  readonly ifaceId?: string
  /** `external_ids:vm-id`. */
  readonly vmId?: string
  /** `external_ids:port-profile`. */
  readonly portProfile?: string
  /** The VLAN of an access port, or the native one of a trunk: 0..4095. */
  readonly tag?: number
  /** The VLANs of a trunk; default all. */
  readonly trunks?: readonly number[]
  readonly vlanMode?: (typeof VLAN_MODES)[number]
  /** What the guest may send, in kbit/s; 0 is without limit. */
  readonly ingressPolicingRate?: number
  /** How much of it at once, in kbit; 0 is the switch's default, 8000. */
  readonly ingressPolicingBurst?: number
  /**
   * Whether the port stays when this process ends. Default false: it is removed by undo or, if the process was killed,
   * by whoever plugs into the switch next.
   */
  readonly persistent?: boolean
  /** Waits until OVN has bound the port, too. Needs `ifaceId`. Default false. */
  readonly ovn?: boolean
}

const PORT_KEYS = [
  'bridge',
  'ifaceId',
  'vmId',
  'portProfile',
  'tag',
  'trunks',
  'vlanMode',
  'ingressPolicingRate',
  'ingressPolicingBurst',
  'persistent',
  'ovn',
  ...DATABASE_KEYS,
] as const

const MAX_VLAN = 4095
const MAX_INTEGER = 2 ** 31 - 1

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkOvsOptions(value: unknown, path = 'ovs'): OvsOptions & Database {
  const given = checkObject(value, PORT_KEYS, path)
  const at = (key: string): string => `${path}.${key}`
  checkIfname(given.bridge, at('bridge'))
  for (const key of ['ifaceId', 'vmId', 'portProfile']) {
    if (given[key] !== undefined && checkString(given[key], at(key)) === '')
      throw new InvalidOptionError('ERR_OPTION_RANGE', at(key), 'is empty')
  }
  if (given.tag !== undefined) checkInteger(given.tag, at('tag'), 0, MAX_VLAN)
  if (given.trunks !== undefined) checkTrunks(given.trunks, at('trunks'))
  if (given.vlanMode !== undefined && !VLAN_MODES.some((mode) => mode === given.vlanMode)) {
    const problem = `${JSON.stringify(given.vlanMode)} is not one of ${VLAN_MODES.join(', ')}`
    throw new InvalidOptionError('ERR_OPTION_RANGE', at('vlanMode'), problem)
  }
  for (const key of ['ingressPolicingRate', 'ingressPolicingBurst'])
    checkInteger(given[key], at(key), 0, MAX_INTEGER, 0)
  for (const key of ['persistent', 'ovn']) if (given[key] !== undefined) checkBoolean(given[key], at(key))
  if (given.ovn === true && given.ifaceId === undefined)
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', at('ovn'), 'needs ifaceId, by which OVN knows the port')
  const database = Object.fromEntries(DATABASE_KEYS.flatMap((key) => (key in given ? [[key, given[key]]] : [])))
  return { ...(given as unknown as OvsOptions), ...checkDatabase(database, path) }
}

function checkTrunks(value: unknown, option: string): void {
  if (!Array.isArray(value)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be an array of VLANs, not ${typeof value}`)
  }
  for (const [index, vlan] of value.entries()) checkInteger(vlan, `${option}[${index}]`, 0, MAX_VLAN)
}
