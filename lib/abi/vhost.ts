// vhost: numbers that are not virtio's own (linux/vhost.h, linux/vhost_types.h, drivers/vhost/net.c).

export const VHOST_NET_DEVICE = '/dev/vhost-net'

/** Bits that mean something else to vhost than to virtio, or exist for it only. */
export const VHOST_F = {
  /** Dirty log. */
  VHOST_F_LOG_ALL: 26,
  /** vhost itself adds and strips the header; shares its number with VIRTIO_F_ANY_LAYOUT. */
  VHOST_NET_F_VIRTIO_NET_HDR: 27,
} as const

/** Index of a vhost-net fd's two rings (drivers/vhost/net.c: VHOST_NET_VQ_RX, VHOST_NET_VQ_TX). */
export const VHOST_NET_VQ_RX = 0
export const VHOST_NET_VQ_TX = 1

/** Regions in a memory table unless the vhost module was loaded with another max_mem_regions. */
export const VHOST_MEMORY_DEFAULT_REGIONS = 64
