// A port of a Linux bridge as it is asked for.

import { InvalidOptionError } from '../errors.ts'
import { checkIfname } from '../host/ifname.ts'
import { checkVid, type NewBridgeVlan } from '../host/rtnetlink-bridge.ts'
import { checkBoolean, checkObject } from '../options.ts'

/** VLANs of a port. With `tag` alone it is an access port; with `trunk`, `tag` is the native VLAN of what comes untagged. */
export interface BridgeVlanOptions {
  /** 1..4094. */
  readonly tag?: number
  /** VLANs whose frames pass with their tags, 1..4094 each. */
  readonly trunk?: readonly number[]
  /** Whether frames of the native VLAN go out to the guest with a tag. libvirt's word. Default `untagged`. */
  readonly nativeMode?: 'tagged' | 'untagged'
}

export interface BridgeOptions {
  /** The bridge: `br0`. It must exist. */
  readonly bridge: string
  /** Keeps it apart from the other isolated ports: libvirt's `<port isolated='yes'/>`. Default what the port is set to. */
  readonly isolated?: boolean
  /** Needs the bridge's `vlan_filtering`. Default the bridge's `vlan_default_pvid`, untagged. */
  readonly vlan?: BridgeVlanOptions
}

const NATIVE_MODES: readonly unknown[] = ['tagged', 'untagged']

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkBridgeOptions(value: unknown): BridgeOptions {
  const given = checkObject(value, ['bridge', 'isolated', 'vlan'])
  checkIfname(given.bridge, 'bridge')
  if (given.isolated !== undefined) checkBoolean(given.isolated, 'isolated')
  if (given.vlan !== undefined) checkVlan(given.vlan)
  return value as BridgeOptions
}

function checkVlan(value: unknown): void {
  const { tag, trunk, nativeMode } = checkObject(value, ['tag', 'trunk', 'nativeMode'], 'vlan')
  if (tag !== undefined) checkVid(tag, 'vlan.tag')
  if (trunk !== undefined) checkTrunk(trunk)
  if (tag === undefined && trunk === undefined) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'vlan', 'has neither tag nor trunk')
  }
  if (nativeMode === undefined) return
  if (!NATIVE_MODES.includes(nativeMode)) {
    const problem = `must be tagged or untagged, not ${String(nativeMode)}`
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'vlan.nativeMode', problem)
  }
  if (tag === undefined || trunk === undefined) {
    const problem = 'is of a trunk with a native VLAN: it needs tag and trunk'
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'vlan.nativeMode', problem)
  }
}

function checkTrunk(value: unknown): void {
  if (!Array.isArray(value)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', 'vlan.trunk', `must be an array of VLANs, not ${typeof value}`)
  }
  if (value.length === 0) throw new InvalidOptionError('ERR_OPTION_RANGE', 'vlan.trunk', 'is empty')
  for (const [i, vid] of value.entries()) checkVid(vid, `vlan.trunk[${i}]`)
}

/** What a bridge makes of it: each VLAN once, in order. */
export function vlansOf({ tag, trunk = [], nativeMode = 'untagged' }: BridgeVlanOptions): Required<NewBridgeVlan>[] {
  const native = tag === undefined ? [] : [{ vid: tag, pvid: true, untagged: nativeMode === 'untagged' }]
  const tagged = new Set(trunk.filter((vid) => vid !== tag))
  return [...native, ...[...tagged].map((vid) => ({ vid, pvid: false, untagged: false }))].sort((a, b) => a.vid - b.vid)
}

/** `VLAN 42, untagged`; `VLANs 1-3,7, tagged, and 5, native and untagged` */
export function describeVlans(options: BridgeVlanOptions): string {
  const { tag, trunk, nativeMode = 'untagged' } = options
  if (trunk === undefined) return `VLAN ${tag}, untagged`
  const vids = ranges(vlansOf(options).flatMap(({ vid }) => (vid === tag ? [] : [vid])))
  const tagged = vids === '' ? [] : [`VLAN ${vids}, tagged`]
  const native = tag === undefined ? [] : [`VLAN ${tag}, native and ${nativeMode}`]
  return [...tagged, ...native].join(', and ')
}

function ranges(vids: readonly number[]): string {
  const parts: [first: number, last: number][] = []
  for (const vid of vids) {
    const part = parts.at(-1)
    if (part?.[1] === vid - 1) part[1] = vid
    else parts.push([vid, vid])
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}
