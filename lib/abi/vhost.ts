// vhost: numbers that are not virtio's own (linux/vhost.h, linux/vhost_types.h, drivers/vhost/net.c).

export const VHOST_NET_DEVICE = '/dev/vhost-net'

/** Its device number, MISC_MAJOR and VHOST_NET_MINOR (linux/major.h, linux/miscdevice.h), as fstat(2) has it. */
export const VHOST_NET_RDEV = (10 << 8) | 238

/** Bits that mean something else to vhost than to virtio, or exist for it only. */
export const VHOST_F = {
  /** Dirty log. */
  VHOST_F_LOG_ALL: 26,
  /** vhost itself adds and strips the header; shares its number with VIRTIO_F_ANY_LAYOUT. */
  VHOST_NET_F_VIRTIO_NET_HDR: 27,
} as const

/** Bits of VHOST_SET_BACKEND_FEATURES that vhost-net has (drivers/vhost/net.c: VHOST_NET_BACKEND_FEATURES). */
export const VHOST_BACKEND_F = {
  /** IOTLB messages are of the second version. */
  VHOST_BACKEND_F_IOTLB_MSG_V2: 1,
} as const

/** Flags of a ring's addresses. */
export const VHOST_VRING_F = {
  /** Writes to the used ring are logged at log_guest_addr. */
  VHOST_VRING_F_LOG: 0,
} as const

/** Bytes of guest memory that one bit of the dirty log stands for. */
export const VHOST_PAGE_SIZE = 4096

/** Whether a worker is a thread of the kernel or of the process that owns the device. */
export const VHOST_FORK_OWNER = {
  VHOST_FORK_OWNER_KTHREAD: 0,
  VHOST_FORK_OWNER_TASK: 1,
} as const

/** Types of IOTLB messages. */
export const VHOST_IOTLB = {
  VHOST_IOTLB_MISS: 1,
  VHOST_IOTLB_UPDATE: 2,
  VHOST_IOTLB_INVALIDATE: 3,
  VHOST_IOTLB_ACCESS_FAIL: 4,
} as const

/** What the device may do with a range of its IOTLB. */
export const VHOST_ACCESS = {
  VHOST_ACCESS_RO: 1,
  VHOST_ACCESS_WO: 2,
  VHOST_ACCESS_RW: 3,
} as const

/** Byte order of a legacy ring. */
export const VHOST_VRING_ENDIAN = {
  VHOST_VRING_LITTLE_ENDIAN: 0,
  VHOST_VRING_BIG_ENDIAN: 1,
} as const

/** Index of a vhost-net fd's two rings (drivers/vhost/net.c: VHOST_NET_VQ_RX, VHOST_NET_VQ_TX). */
export const VHOST_NET_VQ_RX = 0
export const VHOST_NET_VQ_TX = 1

/** Regions in a memory table unless the vhost module was loaded with another max_mem_regions. */
export const VHOST_MEMORY_DEFAULT_REGIONS = 64
