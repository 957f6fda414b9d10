// tun/tap: interface flags, offloads and limits (linux/if_tun.h, linux/if.h, drivers/net/tun.c).

export const TUN_DEVICE = '/dev/net/tun'

/** Its device number: major 10, minor 200 (linux/miscdevice.h: TUN_MINOR). */
export const TUN_RDEV = (10 << 8) | 200

/** Flags of TUNSETIFF. */
export const IFF = {
  IFF_TUN: 0x0001,
  IFF_TAP: 0x0002,
  IFF_NAPI: 0x0010,
  IFF_NAPI_FRAGS: 0x0020,
  IFF_NO_CARRIER: 0x0040,
  IFF_BACKPRESSURE: 0x0080,
  IFF_MULTI_QUEUE: 0x0100,
  IFF_ATTACH_QUEUE: 0x0200,
  IFF_DETACH_QUEUE: 0x0400,
  IFF_PERSIST: 0x0800,
  IFF_NO_PI: 0x1000,
  IFF_VNET_HDR: 0x4000,
  IFF_TUN_EXCL: 0x8000,
} as const

/** What the reader of a tap accepts: the argument of TUNSETOFFLOAD. */
export const TUN_F = {
  TUN_F_CSUM: 0x01,
  TUN_F_TSO4: 0x02,
  TUN_F_TSO6: 0x04,
  TUN_F_TSO_ECN: 0x08,
  TUN_F_UFO: 0x10,
  TUN_F_USO4: 0x20,
  TUN_F_USO6: 0x40,
  TUN_F_UDP_TUNNEL_GSO: 0x80,
  TUN_F_UDP_TUNNEL_GSO_CSUM: 0x100,
} as const

/** Messages of TUNSETDEBUG, of many (linux/netdevice.h: NETIF_MSG_*). */
export const NETIF_MSG_DRV = 0x0001

/** Flag of TUNSETTXFILTER: all multicast passes. */
export const TUN_FLT_ALLMULTI = 0x0001

/** Addresses that TUNSETTXFILTER matches exactly (FLT_EXACT_COUNT). */
export const TUN_FLT_EXACT_COUNT = 8

/** Longest interface name in bytes: IFNAMSIZ less its NUL. */
export const IFNAME_MAX = 15

/** Queues of one tap (MAX_TAP_QUEUES). */
export const TAP_MAX_QUEUES = 256

/** The send buffer that lets vhost batch frames (INT_MAX; drivers/vhost/net.c: sock_can_batch). */
export const TUN_SNDBUF_UNLIMITED = 0x7fffffff

/** The MTUs that a tap takes: ETH_MIN_MTU, and 65535 less an Ethernet header (drivers/net/tun.c: tun_net_initialize). */
export const TAP_MIN_MTU = 68
export const TAP_MAX_MTU = 65_521
