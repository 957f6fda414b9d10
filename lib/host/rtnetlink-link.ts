// Requests about links, and a link as the kernel describes it. Pure; the socket is in rtnetlink.ts.
//
// include/uapi/linux/rtnetlink.h, if_link.h; what the kernel does: net/core/rtnetlink.c.

import {
  AF,
  IF_OPER,
  IFLA,
  IFLA_INFO,
  IFLA_TUN,
  NET_DEVICE_FLAGS,
  NLM_F,
  RTNL_LINK_STATS64,
  VETH_INFO,
} from '../abi/rtnetlink.ts'
import { IFF } from '../abi/tun.ts'
import { formatMac, parseMac } from '../address.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkInteger } from '../options.ts'
import { checkIfname } from './ifname.ts'
import { type NetlinkAttributes, type NetlinkMessage, NetlinkWriter, parsePayload } from './netlink-message.ts'
import { ACK, CREATE, checkIndex, linkSubject, MAX_INDEX, present, type RtnetlinkRequest } from './rtnetlink-request.ts'

/** RFC 2863's state of a link, spelled as in `/sys/class/net/…/operstate`. Many virtual links stay `'unknown'`. */
export type Operstate = (typeof IF_OPER)[number]

/** Counters of a link since it was made, `struct rtnl_link_stats64`; exact below 2⁵³. */
export type LinkStats = Record<(typeof RTNL_LINK_STATS64)[number], number>

/** What a link of kind `tun` is: `IFLA_TUN_*` of `linux/if_link.h`. */
export interface TunInfo {
  type: 'tun' | 'tap'
  /** Frames have `struct tun_pi` in front: it was made without IFF_NO_PI. */
  pi: boolean
  /** Frames have a virtio-net header in front: IFF_VNET_HDR. */
  vnet_hdr: boolean
  /** It stays when its last fd is closed: TUNSETPERSIST. */
  persist: boolean
  /** It was made with IFF_MULTI_QUEUE. */
  multi_queue: boolean
  /** Queues that are attached; only of a multi-queue device. */
  numqueues?: number
  /** Queues that have an fd but were detached by TUNSETQUEUE; only of a multi-queue device. */
  numdisabled?: number
  /** The user who may open it without CAP_NET_ADMIN: TUNSETOWNER. */
  owner?: number
  /** The group whose members may: TUNSETGROUP. */
  group?: number
}

/** A network interface, as RTM_NEWLINK describes it. */
export interface Link {
  /** Its number, unique in its network namespace while it exists; 1..2³¹ − 1. */
  index: number
  ifname: string
  /** All of `ifi_flags`: IFF_* of `linux/if.h`. */
  flags: number
  /** IFF_UP: switched on by the administrator. */
  up: boolean
  /** IFF_RUNNING: operational, up and with carrier. */
  running: boolean
  /** IFF_LOWER_UP: the driver has carrier; for a tap, that a queue is attached. */
  lowerUp: boolean
  operstate: Operstate
  /** Bytes of the largest packet, without Ethernet header. */
  mtu: number
  /** The hardware address; a tun, for one, has none. */
  mac?: string
  /** Index of the bridge, bond or vrf it is in. */
  master?: number
  /** Packets the default queueing discipline may hold; for a tap also the size of its queues. */
  txqlen: number
  /** How many have asked for promiscuous mode. */
  promiscuity: number
  /** `'bridge'`, `'tun'` (a tap, too), `'veth'`, …; hardware and `lo` have none. */
  kind?: string
  /** Of kind `'tun'` only. */
  tun?: TunInfo
  stats: LinkStats
}

/** What is to change on a link; what is left out stays. */
export interface LinkSettings {
  /** Switches it on or off: IFF_UP. */
  up?: boolean
  /** Bytes, 68..65535; the driver's range is often narrower. */
  mtu?: number
  /** `'52:54:00:12:34:56'`; not a group address. */
  mac?: string
  /** Index of the bridge, bond or vrf to put it in; null takes it out. */
  master?: number | null
  /** Its new name. Before Linux 6.2 it has to be down. */
  ifname?: string
  /** Packets, 0..2³² − 1. */
  txqlen?: number
  /** The network namespace to move it to: an fd of it, or a process in it. It goes down and may change its index. */
  netns?: { fd: number } | { pid: number }
}

/** A link to be made. */
export type NewLink = {
  ifname: string
  /** `'52:54:00:12:34:56'`; random where it is left out. */
  mac?: string
  /** Bytes, 68..65535. Default: the driver's, usually 1500. */
  mtu?: number
} & (
  | { kind: 'bridge' | 'dummy' }
  | {
      kind: 'veth'
      /** The other end's name. */
      peer: string
    }
)

/** Which link: by name or by index. */
export type LinkKey = { ifname: string } | { index: number }

const maxU32 = 2 ** 32 - 1
// ETH_MIN_MTU and ETH_MAX_MTU, linux/if_ether.h.
const mtuRange = [68, 65535] as const

function ifinfomsg({ index = 0, flags = 0, change = 0 } = {}): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setInt32(4, index, true)
  view.setUint32(8, flags, true)
  view.setUint32(12, change, true)
  return bytes
}

/** RTM_GETLINK of one link. @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, as all below */
export function getLinkRequest(key: LinkKey): RtnetlinkRequest {
  if ('index' in key) {
    const index = checkIndex(key.index)
    const body = new NetlinkWriter().struct(ifinfomsg({ index }))
    return { name: 'RTM_GETLINK', flags: ACK, body, ...linkSubject(index) }
  }
  const ifname = checkIfname(key.ifname)
  const body = new NetlinkWriter().struct(ifinfomsg()).string(IFLA.IFLA_IFNAME, ifname)
  return { name: 'RTM_GETLINK', flags: ACK, body, ...linkSubject(ifname) }
}

/** RTM_GETLINK of all links. */
export function listLinksRequest(): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(ifinfomsg())
  return { name: 'RTM_GETLINK', flags: NLM_F.NLM_F_DUMP, body, subject: 'all links', context: {} }
}

/** RTM_SETLINK. */
export function setLinkRequest(index: number, settings: LinkSettings): RtnetlinkRequest {
  const { up, master, ifname, txqlen, netns } = settings
  const subject = linkSubject(checkIndex(index))
  if (up !== undefined && typeof up !== 'boolean') {
    throw new InvalidOptionError('ERR_OPTION_TYPE', 'up', `expected a boolean, received ${typeof up}`)
  }
  const flags = up === true ? NET_DEVICE_FLAGS.IFF_UP : 0
  const body = new NetlinkWriter().struct(
    ifinfomsg({ index, flags, change: up === undefined ? 0 : NET_DEVICE_FLAGS.IFF_UP }),
  )
  if (ifname !== undefined) body.string(IFLA.IFLA_IFNAME, checkIfname(ifname))
  writeMacAndMtu(body, settings)
  if (master !== undefined) body.u32(IFLA.IFLA_MASTER, master === null ? 0 : checkIndex(master, 'master'))
  if (txqlen !== undefined) body.u32(IFLA.IFLA_TXQLEN, checkInteger(txqlen, 'txqlen', 0, maxU32))
  if (netns !== undefined) writeNetns(body, netns)
  return { name: 'RTM_SETLINK', flags: ACK, body, ...subject }
}

function writeMacAndMtu(body: NetlinkWriter, { mac, mtu }: { mac?: string; mtu?: number }): void {
  if (mac !== undefined) body.attribute(IFLA.IFLA_ADDRESS, parseMac(mac, 'mac'))
  if (mtu !== undefined) body.u32(IFLA.IFLA_MTU, checkInteger(mtu, 'mtu', ...mtuRange))
}

function writeNetns(body: NetlinkWriter, netns: NonNullable<LinkSettings['netns']>): void {
  if ('fd' in netns) body.u32(IFLA.IFLA_NET_NS_FD, checkInteger(netns.fd, 'netns.fd', 0, MAX_INDEX))
  else body.u32(IFLA.IFLA_NET_NS_PID, checkInteger(netns.pid, 'netns.pid', 1, MAX_INDEX))
}

/** RTM_NEWLINK, of a link that does not exist. */
export function addLinkRequest(link: NewLink): RtnetlinkRequest {
  const ifname = checkIfname(link.ifname)
  const peer = link.kind === 'veth' ? checkIfname(link.peer, 'peer') : undefined
  const body = new NetlinkWriter().struct(ifinfomsg()).string(IFLA.IFLA_IFNAME, ifname)
  writeMacAndMtu(body, link)
  body.nest(IFLA.IFLA_LINKINFO, (info) => {
    info.string(IFLA_INFO.IFLA_INFO_KIND, link.kind)
    if (peer === undefined) return
    info.nest(IFLA_INFO.IFLA_INFO_DATA, (data) =>
      data.nest(VETH_INFO.VETH_INFO_PEER, (end) => end.struct(ifinfomsg()).string(IFLA.IFLA_IFNAME, peer)),
    )
  })
  return { name: 'RTM_NEWLINK', flags: CREATE, body, subject: `${link.kind} ${ifname}`, context: { ifname } }
}

/** RTM_DELLINK. */
export function deleteLinkRequest(index: number): RtnetlinkRequest {
  const subject = linkSubject(checkIndex(index))
  return { name: 'RTM_DELLINK', flags: ACK, body: new NetlinkWriter().struct(ifinfomsg({ index })), ...subject }
}

/**
 * The link that RTM_NEWLINK or RTM_DELLINK describes; undefined where the message is not about the link itself: a
 * bridge's view of its port has its own family (br_ifinfo_notify, whose RTM_DELLINK says that the port left the
 * bridge), and wireless events come without the link's properties (net/wireless/wext-core.c).
 * @throws {SystemCallError} `EBADMSG`
 */
export function decodeLink({ payload }: NetlinkMessage): Link | undefined {
  const { view, attributes } = parsePayload(payload, 16)
  if (view.getUint8(0) !== AF.AF_UNSPEC || attributes.has(IFLA.IFLA_WIRELESS)) return undefined
  const flags = view.getUint32(8, true)
  const address = attributes.bytes(IFLA.IFLA_ADDRESS)
  const master = attributes.u32(IFLA.IFLA_MASTER) ?? 0
  const info = attributes.nested(IFLA.IFLA_LINKINFO)
  const kind = info?.string(IFLA_INFO.IFLA_INFO_KIND)
  const data = kind === 'tun' ? info?.nested(IFLA_INFO.IFLA_INFO_DATA) : undefined
  return {
    index: view.getInt32(4, true),
    ifname: present(attributes.string(IFLA.IFLA_IFNAME), 'IFLA_IFNAME'),
    flags,
    up: (flags & NET_DEVICE_FLAGS.IFF_UP) !== 0,
    running: (flags & NET_DEVICE_FLAGS.IFF_RUNNING) !== 0,
    lowerUp: (flags & NET_DEVICE_FLAGS.IFF_LOWER_UP) !== 0,
    operstate: IF_OPER[attributes.u8(IFLA.IFLA_OPERSTATE) ?? 0] ?? 'unknown',
    mtu: present(attributes.u32(IFLA.IFLA_MTU), 'IFLA_MTU'),
    ...(address !== undefined && address.length > 0 && { mac: formatMac(address) }),
    ...(master !== 0 && { master }),
    txqlen: present(attributes.u32(IFLA.IFLA_TXQLEN), 'IFLA_TXQLEN'),
    promiscuity: present(attributes.u32(IFLA.IFLA_PROMISCUITY), 'IFLA_PROMISCUITY'),
    ...(kind !== undefined && { kind }),
    ...(data !== undefined && { tun: decodeTun(data) }),
    stats: decodeStats(attributes),
  }
}

function decodeTun(data: NetlinkAttributes): TunInfo {
  const numqueues = data.u32(IFLA_TUN.IFLA_TUN_NUM_QUEUES)
  const numdisabled = data.u32(IFLA_TUN.IFLA_TUN_NUM_DISABLED_QUEUES)
  const owner = data.u32(IFLA_TUN.IFLA_TUN_OWNER)
  const group = data.u32(IFLA_TUN.IFLA_TUN_GROUP)
  return {
    type: data.u8(IFLA_TUN.IFLA_TUN_TYPE) === IFF.IFF_TAP ? 'tap' : 'tun',
    pi: data.u8(IFLA_TUN.IFLA_TUN_PI) === 1,
    vnet_hdr: data.u8(IFLA_TUN.IFLA_TUN_VNET_HDR) === 1,
    persist: data.u8(IFLA_TUN.IFLA_TUN_PERSIST) === 1,
    multi_queue: data.u8(IFLA_TUN.IFLA_TUN_MULTI_QUEUE) === 1,
    ...(numqueues !== undefined && { numqueues }),
    ...(numdisabled !== undefined && { numdisabled }),
    ...(owner !== undefined && { owner }),
    ...(group !== undefined && { group }),
  }
}

function decodeStats(attributes: NetlinkAttributes): LinkStats {
  const values = present(attributes.u64s(IFLA.IFLA_STATS64, RTNL_LINK_STATS64.length), 'IFLA_STATS64')
  return Object.fromEntries(RTNL_LINK_STATS64.map((name, index) => [name, values[index]])) as LinkStats
}
