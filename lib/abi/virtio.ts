// Virtio 1.x: numbers of the split virtqueue, and the status and feature bits of every device (sections 2.1, 2.7 and 6;
// linux/virtio_ring.h, linux/virtio_config.h).

/** Feature bits, by number. */
export const VIRTIO_F = {
  VIRTIO_F_NOTIFY_ON_EMPTY: 24,
  VIRTIO_F_ANY_LAYOUT: 27,
  VIRTIO_RING_F_INDIRECT_DESC: 28,
  VIRTIO_RING_F_EVENT_IDX: 29,
  VIRTIO_F_VERSION_1: 32,
  VIRTIO_F_ACCESS_PLATFORM: 33,
  VIRTIO_F_RING_PACKED: 34,
  VIRTIO_F_IN_ORDER: 35,
  VIRTIO_F_ORDER_PLATFORM: 36,
  VIRTIO_F_SR_IOV: 37,
  VIRTIO_F_NOTIFICATION_DATA: 38,
  VIRTIO_F_NOTIF_CONFIG_DATA: 39,
  VIRTIO_F_RING_RESET: 40,
  VIRTIO_F_ADMIN_VQ: 41,
  VIRTIO_F_SUSPEND: 43,
} as const

/** Bits of the device status (section 2.1; linux/virtio_config.h). */
export const VIRTIO_CONFIG_S = {
  VIRTIO_CONFIG_S_ACKNOWLEDGE: 1,
  VIRTIO_CONFIG_S_DRIVER: 2,
  VIRTIO_CONFIG_S_DRIVER_OK: 4,
  VIRTIO_CONFIG_S_FEATURES_OK: 8,
  VIRTIO_CONFIG_S_NEEDS_RESET: 0x40,
  VIRTIO_CONFIG_S_FAILED: 0x80,
} as const

/** `virtq_desc.flags` (section 2.7.5). */
export const VRING_DESC_F = { VRING_DESC_F_NEXT: 1, VRING_DESC_F_WRITE: 2, VRING_DESC_F_INDIRECT: 4 } as const
/** `virtq_avail.flags`: the driver wants no interrupts; only without EVENT_IDX (section 2.7.7). */
export const VRING_AVAIL_F_NO_INTERRUPT = 1
/** `virtq_used.flags`: the device wants no kicks; only without EVENT_IDX (section 2.7.10). */
export const VRING_USED_F_NO_NOTIFY = 1

/** Largest split virtqueue (section 2.7). */
export const VIRTQUEUE_MAX_SIZE = 32768

/** Alignment in bytes of the descriptor table, available ring and used ring (section 2.7). */
export const VRING_DESC_ALIGN = 16
export const VRING_AVAIL_ALIGN = 2
export const VRING_USED_ALIGN = 4

/** Bytes of one descriptor: le64 addr, le32 len, le16 flags, le16 next (section 2.7.5). */
export const VRING_DESC_SIZE = 16
/** Bytes of one used element: le32 id, le32 len (section 2.7.8). */
export const VRING_USED_ELEM_SIZE = 8
/** Bytes of the available and the used ring besides their entries: le16 flags, le16 idx, le16 event. */
export const VRING_AVAIL_OVERHEAD = 6
export const VRING_USED_OVERHEAD = 6

/** Bytes of the three parts of a ring with `num` entries, event words included (section 2.7). */
export function vringSizes(num: number): { desc: number; avail: number; used: number } {
  return {
    desc: VRING_DESC_SIZE * num,
    avail: VRING_AVAIL_OVERHEAD + 2 * num,
    used: VRING_USED_OVERHEAD + VRING_USED_ELEM_SIZE * num,
  }
}
