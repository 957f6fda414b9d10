// Where a driver's rings, indirect tables and buffer pools lie in guest memory.

import { VRING_DESC_SIZE, vringSizes } from '../abi/virtio.ts'
import { VIRTIO_NET_HDR_SIZE } from '../abi/virtio-net.ts'

const PAGE_SIZE = 4096

/** Largest frame a driver sends or receives: a 64 KiB IP packet with its Ethernet header. */
export const MAX_FRAME_SIZE = 65535 + 14

/** One queue's place; addresses are guest-physical. */
export interface QueueLayout {
  num: number
  desc: number
  avail: number
  used: number
  /** `num` tables of `maxSegments` descriptors. */
  indirectTables: number
  pool: number
  bufferSize: number
  bufferCount: number
  maxSegments: number
}

export interface LayoutOptions {
  queuePairs: number
  queueSize: number
  bufferSize: number
  indirect: boolean
  /** Guest-physical address of the first byte to use. */
  address: number
}

export interface DriverLayout {
  pairs: readonly { rx: QueueLayout; tx: QueueLayout }[]
  /** Bytes from `address` to the end of the last queue. */
  size: number
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}

/** Lays out all queues, one after the other, each on pages of its own. */
export function layOut({ queuePairs, queueSize, bufferSize, indirect, address }: LayoutOptions): DriverLayout {
  let next = address
  const take = (size: number, alignment: number): number => {
    const at = alignUp(next, alignment)
    next = at + size
    return at
  }
  const queue = (): QueueLayout => {
    const sizes = vringSizes(queueSize)
    const maxSegments = Math.min(Math.ceil((MAX_FRAME_SIZE + VIRTIO_NET_HDR_SIZE) / bufferSize), queueSize)
    const desc = take(sizes.desc, PAGE_SIZE)
    const avail = take(sizes.avail, 2)
    const used = take(sizes.used, PAGE_SIZE)
    const indirectTables = take(indirect ? queueSize * maxSegments * VRING_DESC_SIZE : 0, VRING_DESC_SIZE)
    // As many again as the ring takes, so that it stays full while a burst is being worked on.
    const bufferCount = 2 * queueSize
    const pool = take(bufferCount * bufferSize, PAGE_SIZE)
    return { num: queueSize, desc, avail, used, indirectTables, pool, bufferSize, bufferCount, maxSegments }
  }
  const pairs = Array.from({ length: queuePairs }, () => ({ rx: queue(), tx: queue() }))
  return { pairs, size: alignUp(next, PAGE_SIZE) - address }
}
