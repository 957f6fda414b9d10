// Numbers of rtnetlink: how the kernel is asked about links, addresses, neighbours and routes. UAPI names, Linux 6.18.
// Those of queueing disciplines are in pkt-sched.ts.

/** Protocols of an AF_NETLINK socket: `linux/netlink.h`. */
export const NETLINK = {
  NETLINK_ROUTE: 0,
} as const

/** `nlmsg_flags` of a request; CREATE, EXCL and REPLACE belong to requests that make something: `linux/netlink.h`. */
export const NLM_F = {
  NLM_F_REQUEST: 0x1,
  NLM_F_ACK: 0x4,
  /** Of an answer: the list changed while it was read. */
  NLM_F_DUMP_INTR: 0x10,
  /** NLM_F_ROOT | NLM_F_MATCH. */
  NLM_F_DUMP: 0x300,
  NLM_F_EXCL: 0x200,
  NLM_F_CREATE: 0x400,
  /** Of an acknowledgement: the request is not repeated in it, only its header. */
  NLM_F_CAPPED: 0x100,
  /** Of an acknowledgement: NLMSGERR attributes follow. */
  NLM_F_ACK_TLVS: 0x200,
} as const

/** `nlmsg_type` of control messages: `linux/netlink.h`. */
export const NLMSG = {
  NLMSG_ERROR: 2,
  NLMSG_DONE: 3,
} as const

/** Attributes of an acknowledgement: `linux/netlink.h`. */
export const NLMSGERR_ATTR = {
  NLMSGERR_ATTR_MSG: 1,
} as const

/** Bits of `nla_type`: `linux/netlink.h`. */
export const NLA = {
  NLA_F_NESTED: 0x8000,
  /** ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER). */
  NLA_TYPE_MASK: 0x3fff,
} as const

/** `nlmsg_type` of rtnetlink: `linux/rtnetlink.h`. */
export const RTM = {
  RTM_NEWLINK: 16,
  RTM_DELLINK: 17,
  RTM_GETLINK: 18,
  RTM_SETLINK: 19,
  RTM_NEWADDR: 20,
  RTM_DELADDR: 21,
  RTM_GETADDR: 22,
  RTM_NEWNEIGH: 28,
  RTM_DELNEIGH: 29,
  RTM_NEWROUTE: 24,
  RTM_DELROUTE: 25,
  RTM_GETROUTE: 26,
  RTM_NEWQDISC: 36,
  RTM_DELQDISC: 37,
  RTM_GETQDISC: 38,
  RTM_NEWTCLASS: 40,
  RTM_GETTCLASS: 42,
  RTM_NEWTFILTER: 44,
  RTM_GETTFILTER: 46,
} as const

/** Multicast groups, as bits of `nl_groups`: `linux/rtnetlink.h`. */
export const RTMGRP = {
  RTMGRP_LINK: 0x1,
} as const

/** Attributes of a link, after `struct ifinfomsg`: `linux/if_link.h`. */
export const IFLA = {
  IFLA_ADDRESS: 1,
  IFLA_IFNAME: 3,
  IFLA_MTU: 4,
  IFLA_LINK: 5,
  IFLA_MASTER: 10,
  IFLA_WIRELESS: 11,
  IFLA_PROTINFO: 12,
  IFLA_TXQLEN: 13,
  IFLA_OPERSTATE: 16,
  IFLA_LINKINFO: 18,
  IFLA_NET_NS_PID: 19,
  IFLA_STATS64: 23,
  IFLA_AF_SPEC: 26,
  IFLA_NET_NS_FD: 28,
  IFLA_EXT_MASK: 29,
  IFLA_PROMISCUITY: 30,
} as const

/** Attributes in IFLA_LINKINFO: `linux/if_link.h`. */
export const IFLA_INFO = {
  IFLA_INFO_KIND: 1,
  IFLA_INFO_DATA: 2,
  IFLA_INFO_SLAVE_KIND: 4,
  IFLA_INFO_SLAVE_DATA: 5,
} as const

/** IFLA_EXT_MASK: what a listing of bridges has besides; ranges of VLANs as ranges: `linux/rtnetlink.h`. */
export const RTEXT_FILTER = {
  RTEXT_FILTER_BRVLAN_COMPRESSED: 1 << 2,
} as const

/** Attributes in IFLA_INFO_DATA of kind "bridge": `linux/if_link.h`. */
export const IFLA_BR = {
  IFLA_BR_VLAN_FILTERING: 7,
  IFLA_BR_MCAST_SNOOPING: 23,
  IFLA_BR_VLAN_DEFAULT_PVID: 39,
} as const

/** Attributes in IFLA_PROTINFO, and in IFLA_INFO_SLAVE_DATA, of a bridge's port: `linux/if_link.h`. */
export const IFLA_BRPORT = {
  IFLA_BRPORT_STATE: 1,
  IFLA_BRPORT_MODE: 4,
  IFLA_BRPORT_GUARD: 5,
  IFLA_BRPORT_LEARNING: 8,
  IFLA_BRPORT_UNICAST_FLOOD: 9,
  IFLA_BRPORT_MCAST_FLOOD: 27,
  IFLA_BRPORT_BCAST_FLOOD: 30,
  IFLA_BRPORT_NEIGH_SUPPRESS: 32,
  IFLA_BRPORT_ISOLATED: 33,
} as const

/** IFLA_BRPORT_STATE by number: BR_STATE_* of `linux/if_bridge.h`. */
export const BR_STATE = ['disabled', 'listening', 'learning', 'forwarding', 'blocking'] as const

/** Attributes in IFLA_AF_SPEC of family AF_BRIDGE: `linux/if_bridge.h`. */
export const IFLA_BRIDGE = {
  IFLA_BRIDGE_VLAN_INFO: 2,
} as const

/** `flags` of `struct bridge_vlan_info`: `linux/if_bridge.h`. */
export const BRIDGE_VLAN_INFO = {
  BRIDGE_VLAN_INFO_PVID: 1 << 1,
  BRIDGE_VLAN_INFO_UNTAGGED: 1 << 2,
  BRIDGE_VLAN_INFO_RANGE_BEGIN: 1 << 3,
  BRIDGE_VLAN_INFO_RANGE_END: 1 << 4,
} as const

/** Attributes in IFLA_INFO_DATA of kinds "macvlan" and "macvtap": `linux/if_link.h`. */
export const IFLA_MACVLAN = {
  IFLA_MACVLAN_MODE: 1,
} as const

/** IFLA_MACVLAN_MODE, enum macvlan_mode, by the names of ip and libvirt: `linux/if_link.h`. */
export const MACVLAN_MODE = {
  private: 1,
  vepa: 2,
  bridge: 4,
  passthru: 8,
} as const

/** Attributes in IFLA_INFO_DATA of kind "tun": `linux/if_link.h`. */
export const IFLA_TUN = {
  IFLA_TUN_OWNER: 1,
  IFLA_TUN_GROUP: 2,
  /** IFF_TUN or IFF_TAP: `linux/if_tun.h`. */
  IFLA_TUN_TYPE: 3,
  IFLA_TUN_PI: 4,
  IFLA_TUN_VNET_HDR: 5,
  IFLA_TUN_PERSIST: 6,
  IFLA_TUN_MULTI_QUEUE: 7,
  IFLA_TUN_NUM_QUEUES: 8,
  IFLA_TUN_NUM_DISABLED_QUEUES: 9,
} as const

/** Attributes in IFLA_INFO_DATA of kind "veth": `linux/veth.h`. */
export const VETH_INFO = {
  VETH_INFO_PEER: 1,
} as const

/** `struct rtnl_link_stats64`, in order, each a u64, as far as Linux 4.6 has it: `linux/if_link.h`. */
export const RTNL_LINK_STATS64 = [
  'rx_packets',
  'tx_packets',
  'rx_bytes',
  'tx_bytes',
  'rx_errors',
  'tx_errors',
  'rx_dropped',
  'tx_dropped',
  'multicast',
  'collisions',
  'rx_length_errors',
  'rx_over_errors',
  'rx_crc_errors',
  'rx_frame_errors',
  'rx_fifo_errors',
  'rx_missed_errors',
  'tx_aborted_errors',
  'tx_carrier_errors',
  'tx_fifo_errors',
  'tx_heartbeat_errors',
  'tx_window_errors',
  'rx_compressed',
  'tx_compressed',
  'rx_nohandler',
] as const

/** `ifi_flags`, enum net_device_flags: `linux/if.h`. */
export const NET_DEVICE_FLAGS = {
  IFF_UP: 0x1,
  IFF_LOOPBACK: 0x8,
  IFF_RUNNING: 0x40,
  IFF_ALLMULTI: 0x200,
  IFF_LOWER_UP: 0x10000,
} as const

/** IFLA_OPERSTATE by number, named as `/sys/class/net/…/operstate` does: IF_OPER_* of `linux/if.h`. */
export const IF_OPER = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'] as const

/** Attributes of an address, after `struct ifaddrmsg`: `linux/if_addr.h`. */
export const IFA = {
  IFA_ADDRESS: 1,
  IFA_LOCAL: 2,
  IFA_BROADCAST: 4,
  /** All 32 bits of the flags; `ifa_flags` has the lower 8. */
  IFA_FLAGS: 8,
} as const

/** Flags of an address: `linux/if_addr.h`. */
export const IFA_F = {
  IFA_F_NODAD: 0x02,
  IFA_F_DADFAILED: 0x08,
  IFA_F_TENTATIVE: 0x40,
  IFA_F_NOPREFIXROUTE: 0x200,
} as const

/** Attributes of a route, after `struct rtmsg`: `linux/rtnetlink.h`. */
export const RTA = {
  RTA_DST: 1,
  RTA_OIF: 4,
  RTA_TABLE: 15,
} as const

/** `rtm_table`, `rtm_protocol`, `rtm_type` and `rtm_scope` of a route as `ip route add` makes it: `linux/rtnetlink.h`. */
export const RT_TABLE_MAIN = 254
export const RTPROT_BOOT = 3
export const RTN_UNICAST = 1
export const RT_SCOPE = { RT_SCOPE_UNIVERSE: 0, RT_SCOPE_LINK: 253 } as const

/** Attributes of a neighbour, after `struct ndmsg`: `linux/neighbour.h`. */
export const NDA = {
  NDA_DST: 1,
  NDA_LLADDR: 2,
} as const

/** `ndm_state`: `linux/neighbour.h`. */
export const NUD = {
  NUD_REACHABLE: 0x02,
  NUD_STALE: 0x04,
  NUD_PERMANENT: 0x80,
} as const

/** Address families: `linux/socket.h`. */
export const AF = {
  AF_UNSPEC: 0,
  AF_INET: 2,
  AF_BRIDGE: 7,
  AF_INET6: 10,
} as const
