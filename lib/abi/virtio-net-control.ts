// Virtio network device: configuration space and control virtqueue (sections 5.1.4 and 5.1.6.5; linux/virtio_net.h).

/** Offsets of `virtio_net_config`: u8 mac[6], le16 status, max_virtqueue_pairs and mtu, le32 speed, u8 duplex. */
export const VIRTIO_NET_CONFIG = {
  mac: 0,
  status: 6,
  max_virtqueue_pairs: 8,
  mtu: 10,
  speed: 12,
  duplex: 16,
} as const

/** `virtio_net_config.status`. */
export const VIRTIO_NET_S = { VIRTIO_NET_S_LINK_UP: 1, VIRTIO_NET_S_ANNOUNCE: 2 } as const

/** Least and largest `virtio_net_config.mtu` (section 5.1.4.1). */
export const VIRTIO_NET_MTU_MIN = 68
export const VIRTIO_NET_MTU_MAX = 65535

/** `virtio_net_config.speed` and `duplex` where nobody knows. */
export const SPEED_UNKNOWN = 0xffff_ffff
/** Largest known speed, in Mbit/s. */
export const SPEED_MAX = 0x7fff_ffff
/** As linux/ethtool.h has it; the specification contradicts itself. */
export const DUPLEX = { DUPLEX_HALF: 0, DUPLEX_FULL: 1, DUPLEX_UNKNOWN: 0xff } as const

/** Answers to a command. */
export const VIRTIO_NET_OK = 0
export const VIRTIO_NET_ERR = 1

/** Classes of commands: the first byte. */
export const VIRTIO_NET_CTRL = {
  VIRTIO_NET_CTRL_RX: 0,
  VIRTIO_NET_CTRL_MAC: 1,
  VIRTIO_NET_CTRL_VLAN: 2,
  VIRTIO_NET_CTRL_ANNOUNCE: 3,
  VIRTIO_NET_CTRL_MQ: 4,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS: 5,
} as const

/** Commands of class RX: the second byte; u8, 0 or 1, follows. */
export const VIRTIO_NET_CTRL_RX = {
  VIRTIO_NET_CTRL_RX_PROMISC: 0,
  VIRTIO_NET_CTRL_RX_ALLMULTI: 1,
  VIRTIO_NET_CTRL_RX_ALLUNI: 2,
  VIRTIO_NET_CTRL_RX_NOMULTI: 3,
  VIRTIO_NET_CTRL_RX_NOUNI: 4,
  VIRTIO_NET_CTRL_RX_NOBCAST: 5,
} as const

/** Commands of class MAC: two tables, each le32 entries and as many addresses; one address. */
export const VIRTIO_NET_CTRL_MAC = { VIRTIO_NET_CTRL_MAC_TABLE_SET: 0, VIRTIO_NET_CTRL_MAC_ADDR_SET: 1 } as const

/** The command of class ANNOUNCE. */
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0

/** The command of class MQ: le16 pairs, and the range of that. */
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 0x8000

/** The command of class GUEST_OFFLOADS: le64 with the bits of the GUEST_* features that are to be on. */
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0

/** Where that has the offloads that are not at the place of their feature bits (section 5.1.6.5.6). */
export const VIRTIO_NET_OFFLOAD = { GUEST_UDP_TUNNEL_GSO: 46, GUEST_UDP_TUNNEL_GSO_CSUM: 47 } as const
