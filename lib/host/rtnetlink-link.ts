// Requests about links, and a link as the kernel describes it. Pure; the socket is in rtnetlink.ts.
//
// include/uapi/linux/rtnetlink.h, if_link.h; what the kernel does: net/core/rtnetlink.c.

import {
  AF,
  IF_OPER,
  IFLA,
  IFLA_INFO,
  IFLA_MACVLAN,
  IFLA_TUN,
  MACVLAN_MODE,
  NET_DEVICE_FLAGS,
  NLM_F,
  RTNL_LINK_STATS64,
  VETH_INFO,
} from '../abi/rtnetlink.ts'
import { IFF } from '../abi/tun.ts'
import { formatMac, parseMac } from '../address.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkBoolean, checkInteger } from '../options.ts'
import { checkIfname } from './ifname.ts'
import { type NetlinkAttributes, type NetlinkMessage, NetlinkWriter, parsePayload } from './netlink-message.ts'
import {
  type BridgeInfo,
  type BridgePortInfo,
  type BridgeSettings,
  decodeBridge,
  decodeBridgePort,
  writeBridgeSettings,
} from './rtnetlink-bridge.ts'
import {
  ACK,
  CREATE,
  checkIndex,
  ifinfomsg,
  linkSubject,
  MAX_INDEX,
  present,
  type RtnetlinkRequest,
} from './rtnetlink-request.ts'

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

/**
 * Who a macvtap talks to: `bridge` to others on its link below at once, `vepa` by way of the switch, which has to send back,
 * `private` not at all; `passthru` has the link below to itself.
 */
export type MacvtapMode = keyof typeof MACVLAN_MODE

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
  /** Index of the link that it is on, or of a veth's peer, perhaps in another network namespace: IFLA_LINK. */
  link?: number
  /** Packets the default queueing discipline may hold; for a tap also the size of its queues. */
  txqlen: number
  /** How many have asked for promiscuous mode. */
  promiscuity: number
  /** `'bridge'`, `'tun'` (a tap, too), `'veth'`, …; hardware and `lo` have none. */
  kind?: string
  /** Of kind `'tun'` only. */
  tun?: TunInfo
  /** Of kind `'bridge'` only. */
  bridge?: BridgeInfo
  /** Of a bridge's port only. */
  bridge_port?: BridgePortInfo
  /** Of kind `'macvtap'` only; undefined of one in a mode that is not listed there. */
  macvtap?: { mode: MacvtapMode | undefined }
  stats: LinkStats
}

/** What is to change on a link; what is left out stays. */
export interface LinkSettings {
  /** Switches it on or off: IFF_UP. */
  up?: boolean
  /** Takes all multicast in: IFF_ALLMULTI. */
  allmulticast?: boolean
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
  | { kind: 'dummy' }
  | ({ kind: 'bridge' } & BridgeSettings)
  | {
      kind: 'macvtap'
      /** Index of the link that it is on. */
      link: number
      mode: MacvtapMode
    }
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
  const { master, ifname, txqlen, netns } = settings
  const subject = linkSubject(checkIndex(index))
  const body = new NetlinkWriter().struct(ifinfomsg({ index, ...changedFlags(settings) }))
  if (ifname !== undefined) body.string(IFLA.IFLA_IFNAME, checkIfname(ifname))
  writeMacAndMtu(body, settings)
  if (master !== undefined) body.u32(IFLA.IFLA_MASTER, master === null ? 0 : checkIndex(master, 'master'))
  if (txqlen !== undefined) body.u32(IFLA.IFLA_TXQLEN, checkInteger(txqlen, 'txqlen', 0, maxU32))
  if (netns !== undefined) writeNetns(body, netns)
  return { name: 'RTM_SETLINK', flags: ACK, body, ...subject }
}

function changedFlags({ up, allmulticast }: LinkSettings): { flags: number; change: number } {
  const { IFF_UP, IFF_ALLMULTI } = NET_DEVICE_FLAGS
  const given = [
    { flag: IFF_UP, on: up === undefined ? undefined : checkBoolean(up, 'up') },
    { flag: IFF_ALLMULTI, on: allmulticast === undefined ? undefined : checkBoolean(allmulticast, 'allmulticast') },
  ].filter(({ on }) => on !== undefined)
  const sum = (flags: typeof given): number => flags.reduce((all, { flag }) => all | flag, 0)
  return { flags: sum(given.filter(({ on }) => on)), change: sum(given) }
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
  const body = new NetlinkWriter().struct(ifinfomsg()).string(IFLA.IFLA_IFNAME, ifname)
  writeMacAndMtu(body, link)
  if (link.kind === 'macvtap') body.u32(IFLA.IFLA_LINK, checkIndex(link.link, 'link'))
  body.nest(IFLA.IFLA_LINKINFO, (info) => {
    info.string(IFLA_INFO.IFLA_INFO_KIND, link.kind)
    if (link.kind !== 'dummy') info.nest(IFLA_INFO.IFLA_INFO_DATA, (data) => writeKind(data, link))
  })
  return { name: 'RTM_NEWLINK', flags: CREATE, body, subject: `${link.kind} ${ifname}`, context: { ifname } }
}

function writeKind(data: NetlinkWriter, link: Exclude<NewLink, { kind: 'dummy' }>): void {
  if (link.kind === 'bridge') writeBridgeSettings(data, link)
  else if (link.kind === 'macvtap') data.u32(IFLA_MACVLAN.IFLA_MACVLAN_MODE, MACVLAN_MODE[checkMacvtapMode(link.mode)])
  else {
    const peer = checkIfname(link.peer, 'peer')
    data.nest(VETH_INFO.VETH_INFO_PEER, (end) => end.struct(ifinfomsg()).string(IFLA.IFLA_IFNAME, peer))
  }
}

/** @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
export function checkMacvtapMode(value: unknown, option = 'mode'): MacvtapMode {
  if (typeof value === 'string' && Object.hasOwn(MACVLAN_MODE, value)) return value as MacvtapMode
  const problem = `must be one of ${Object.keys(MACVLAN_MODE).join(', ')}, not ${String(value)}`
  throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem)
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
  const data = info?.nested(IFLA_INFO.IFLA_INFO_DATA)
  const link = attributes.u32(IFLA.IFLA_LINK)
  const port =
    info?.string(IFLA_INFO.IFLA_INFO_SLAVE_KIND) === 'bridge' ? info.nested(IFLA_INFO.IFLA_INFO_SLAVE_DATA) : undefined
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
    ...(link !== undefined && { link }),
    txqlen: present(attributes.u32(IFLA.IFLA_TXQLEN), 'IFLA_TXQLEN'),
    promiscuity: present(attributes.u32(IFLA.IFLA_PROMISCUITY), 'IFLA_PROMISCUITY'),
    ...(kind !== undefined && { kind }),
    ...(kind === 'tun' && data !== undefined && { tun: decodeTun(data) }),
    ...(kind === 'bridge' && data !== undefined && { bridge: decodeBridge(data) }),
    ...(kind === 'macvtap' && data !== undefined && { macvtap: { mode: decodeMacvtapMode(data) } }),
    ...(port !== undefined && { bridge_port: decodeBridgePort(port) }),
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

function decodeMacvtapMode(data: NetlinkAttributes): MacvtapMode | undefined {
  const mode = data.u32(IFLA_MACVLAN.IFLA_MACVLAN_MODE)
  return (Object.keys(MACVLAN_MODE) as MacvtapMode[]).find((name) => MACVLAN_MODE[name] === mode)
}

function decodeStats(attributes: NetlinkAttributes): LinkStats {
  const values = present(attributes.u64s(IFLA.IFLA_STATS64, RTNL_LINK_STATS64.length), 'IFLA_STATS64')
  return Object.fromEntries(RTNL_LINK_STATS64.map((name, index) => [name, values[index]])) as LinkStats
}
