// Requests about a bridge, its ports and their VLANs, and what the kernel says of them. Pure; the socket is in rtnetlink.ts.
//
// include/uapi/linux/if_link.h, if_bridge.h; what the kernel does: net/bridge/br_netlink.c, br_vlan.c.

import {
  AF,
  BR_STATE,
  BRIDGE_VLAN_INFO,
  IFLA,
  IFLA_BR,
  IFLA_BRIDGE,
  IFLA_BRPORT,
  IFLA_INFO,
  NLM_F,
  RTEXT_FILTER,
} from '../abi/rtnetlink.ts'
import { checkBoolean, checkInteger } from '../options.ts'
import {
  malformed,
  type NetlinkAttributes,
  type NetlinkMessage,
  NetlinkWriter,
  parsePayload,
} from './netlink-message.ts'
import { ACK, checkIndex, ifinfomsg, linkSubject, type RtnetlinkRequest } from './rtnetlink-request.ts'

/** Settings of a bridge, named as by `ip link … type bridge`. */
export interface BridgeSettings {
  /** Whether frames are kept to the VLANs of their ports. Default, of a new one, false. */
  vlan_filtering?: boolean
  /** The VLAN, untagged, that a port is in when it comes; 0 for none, else 1..4094. Default, of a new one, 1. */
  vlan_default_pvid?: number
  /** Whether multicast goes only where somebody asked for it (IGMP, MLD). Default, of a new one, true. */
  mcast_snooping?: boolean
}

/** What a bridge is set to. */
export type BridgeInfo = Required<BridgeSettings>

/** Settings of a bridge's port, named as by `bridge link set`. */
export interface BridgePortSettings {
  /** Frames go from it, and come to it, only between it and ports that are not isolated. */
  isolated?: boolean
  /** Whether the bridge learns addresses from what comes in. */
  learning?: boolean
  /** Whether unicast frames to addresses that the bridge does not know go out at it. */
  flood?: boolean
  /** The same of multicast. */
  mcast_flood?: boolean
  /** The same of broadcast. */
  bcast_flood?: boolean
  /** Whether the bridge answers ARP and neighbour discovery itself, for what it knows. */
  neigh_suppress?: boolean
  /** Whether a frame may leave where it came in. */
  hairpin?: boolean
  /** Whether BPDUs that come in switch it off. */
  guard?: boolean
}

/** What a port is set to, and in which state of spanning tree it is. */
export type BridgePortInfo = Required<BridgePortSettings> & { state: (typeof BR_STATE)[number] }

const portAttributes: Record<keyof BridgePortSettings, number> = {
  isolated: IFLA_BRPORT.IFLA_BRPORT_ISOLATED,
  learning: IFLA_BRPORT.IFLA_BRPORT_LEARNING,
  flood: IFLA_BRPORT.IFLA_BRPORT_UNICAST_FLOOD,
  mcast_flood: IFLA_BRPORT.IFLA_BRPORT_MCAST_FLOOD,
  bcast_flood: IFLA_BRPORT.IFLA_BRPORT_BCAST_FLOOD,
  neigh_suppress: IFLA_BRPORT.IFLA_BRPORT_NEIGH_SUPPRESS,
  hairpin: IFLA_BRPORT.IFLA_BRPORT_MODE,
  guard: IFLA_BRPORT.IFLA_BRPORT_GUARD,
}

/** A VLAN that a port, or the bridge's own, is in. */
export interface BridgeVlan {
  /** 1..4094. */
  vid: number
  /** What comes in untagged is in this one; a port has one such at most. */
  pvid: boolean
  /** What goes out of it is untagged. */
  untagged: boolean
}

/** A VLAN for a port to be in. */
export interface NewBridgeVlan {
  /** 1..4094. */
  vid: number
  /** Default false. */
  pvid?: boolean
  /** Default false. */
  untagged?: boolean
}

/** VLANs that a tag can name: 0 and 4095 are no VLANs (802.1Q). */
const vidRange = [1, 4094] as const

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export const checkVid = (value: unknown, option: string): number => checkInteger(value, option, ...vidRange)

/** Writes what is given, as IFLA_INFO_DATA has it. */
export function writeBridgeSettings(data: NetlinkWriter, settings: BridgeSettings): void {
  const { vlan_filtering, vlan_default_pvid, mcast_snooping } = settings
  const flag = (value: unknown, option: string): number => (checkBoolean(value, option) ? 1 : 0)
  if (vlan_default_pvid !== undefined) {
    data.u16(IFLA_BR.IFLA_BR_VLAN_DEFAULT_PVID, checkInteger(vlan_default_pvid, 'vlan_default_pvid', 0, vidRange[1]))
  }
  if (vlan_filtering !== undefined) data.u8(IFLA_BR.IFLA_BR_VLAN_FILTERING, flag(vlan_filtering, 'vlan_filtering'))
  if (mcast_snooping !== undefined) data.u8(IFLA_BR.IFLA_BR_MCAST_SNOOPING, flag(mcast_snooping, 'mcast_snooping'))
}

/** RTM_NEWLINK of a bridge that exists: RTM_SETLINK leaves out what is particular to a kind (rtnl_setlink). */
export function setBridgeRequest(index: number, settings: BridgeSettings): RtnetlinkRequest {
  const subject = linkSubject(checkIndex(index))
  const body = new NetlinkWriter().struct(ifinfomsg({ index })).nest(IFLA.IFLA_LINKINFO, (info) => {
    info.string(IFLA_INFO.IFLA_INFO_KIND, 'bridge')
    info.nest(IFLA_INFO.IFLA_INFO_DATA, (data) => writeBridgeSettings(data, settings))
  })
  return { name: 'RTM_NEWLINK', flags: ACK, body, ...subject }
}

/** RTM_SETLINK of AF_BRIDGE: what the bridge that a port is in makes of it. */
export function setBridgePortRequest(index: number, settings: BridgePortSettings): RtnetlinkRequest {
  const subject = linkSubject(checkIndex(index))
  const body = new NetlinkWriter()
    .struct(ifinfomsg({ family: AF.AF_BRIDGE, index }))
    .nest(IFLA.IFLA_PROTINFO, (port) => {
      for (const [name, attribute] of Object.entries(portAttributes)) {
        const value = settings[name as keyof BridgePortSettings]
        if (value !== undefined) port.u8(attribute, checkBoolean(value, name) ? 1 : 0)
      }
    })
  return { name: 'RTM_SETLINK', flags: ACK, body, ...subject }
}

/** RTM_SETLINK or RTM_DELLINK of AF_BRIDGE: a port comes into VLANs, or out of them. */
export function bridgeVlansRequest(
  name: 'RTM_SETLINK' | 'RTM_DELLINK',
  index: number,
  vlans: readonly NewBridgeVlan[],
): RtnetlinkRequest {
  checkIndex(index)
  const body = new NetlinkWriter()
    .struct(ifinfomsg({ family: AF.AF_BRIDGE, index }))
    .nest(IFLA.IFLA_AF_SPEC, (bridge) => {
      for (const { vid, pvid = false, untagged = false } of vlans) {
        checkVid(vid, 'vid')
        const { BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED } = BRIDGE_VLAN_INFO
        const flags = (pvid ? BRIDGE_VLAN_INFO_PVID : 0) | (untagged ? BRIDGE_VLAN_INFO_UNTAGGED : 0)
        // struct bridge_vlan_info: flags, vid.
        bridge.attribute(IFLA_BRIDGE.IFLA_BRIDGE_VLAN_INFO, Uint8Array.of(flags, 0, vid & 0xff, vid >> 8))
      }
    })
  const vids = vlans.map(({ vid }) => vid).join(', ')
  return { name, flags: ACK, body, ...linkSubject(index, `VLAN ${vids} of `) }
}

/** RTM_GETLINK of AF_BRIDGE, of all ports: the kernel lists no single one. */
export function listBridgeVlansRequest(): RtnetlinkRequest {
  const body = new NetlinkWriter()
    .struct(ifinfomsg({ family: AF.AF_BRIDGE }))
    .u32(IFLA.IFLA_EXT_MASK, RTEXT_FILTER.RTEXT_FILTER_BRVLAN_COMPRESSED)
  return { name: 'RTM_GETLINK', flags: NLM_F.NLM_F_DUMP, body, subject: 'all VLANs of bridges', context: {} }
}

/** The VLANs of one port that an RTM_NEWLINK of AF_BRIDGE lists, in order. @throws {SystemCallError} `EBADMSG` */
export function decodeBridgeVlans({ payload }: NetlinkMessage): { index: number; vlans: BridgeVlan[] } {
  const { view, attributes } = parsePayload(payload, 16)
  const vlans: BridgeVlan[] = []
  let begin: number | undefined
  for (const bytes of attributes.nested(IFLA.IFLA_AF_SPEC)?.all(IFLA_BRIDGE.IFLA_BRIDGE_VLAN_INFO) ?? []) {
    if (bytes.length < 4) throw malformed(`a bridge_vlan_info of ${bytes.length} bytes`)
    const info = new DataView(bytes.buffer, bytes.byteOffset, 4)
    const [flags, last] = [info.getUint16(0, true), info.getUint16(2, true)]
    const has = (flag: keyof typeof BRIDGE_VLAN_INFO): boolean => (flags & BRIDGE_VLAN_INFO[flag]) !== 0
    if (has('BRIDGE_VLAN_INFO_RANGE_BEGIN')) {
      begin = last
      continue
    }
    const first = has('BRIDGE_VLAN_INFO_RANGE_END') ? (begin ?? last) : last
    for (let vid = first; vid <= last; vid++) {
      vlans.push({ vid, pvid: has('BRIDGE_VLAN_INFO_PVID'), untagged: has('BRIDGE_VLAN_INFO_UNTAGGED') })
    }
  }
  return { index: view.getInt32(4, true), vlans }
}

/** What IFLA_INFO_DATA of kind "bridge" says. @throws {SystemCallError} `EBADMSG` */
export function decodeBridge(data: NetlinkAttributes): BridgeInfo {
  return {
    vlan_filtering: data.u8(IFLA_BR.IFLA_BR_VLAN_FILTERING) === 1,
    vlan_default_pvid: data.u16(IFLA_BR.IFLA_BR_VLAN_DEFAULT_PVID) ?? 0,
    mcast_snooping: data.u8(IFLA_BR.IFLA_BR_MCAST_SNOOPING) === 1,
  }
}

/** What IFLA_INFO_SLAVE_DATA of kind "bridge" says. @throws {SystemCallError} `EBADMSG` */
export function decodeBridgePort(data: NetlinkAttributes): BridgePortInfo {
  const flags = Object.entries(portAttributes).map(([name, attribute]) => [name, data.u8(attribute) === 1])
  const state = BR_STATE[data.u8(IFLA_BRPORT.IFLA_BRPORT_STATE) ?? 0] ?? 'disabled'
  return { ...(Object.fromEntries(flags) as Required<BridgePortSettings>), state }
}
