// Virtio 1.x: numbers of the split virtqueue and the feature bits of every device (sections 2.7 and 6; linux/virtio_ring.h,
// linux/virtio_config.h).

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
  VIRTIO_F_RING_RESET: 40,
} as const

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
