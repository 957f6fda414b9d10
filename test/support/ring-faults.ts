// What a guest can write into a ring, right and wrong, and what becomes of it on the kernel's vhost-net.

import { VRING_DESC_F, VRING_DESC_SIZE } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import type { NetRingFaultCause, RingName } from '../../lib/backend/net-backend.ts'
import type { GuestRing } from './guest-ring.ts'

const { VRING_DESC_F_NEXT: NEXT, VRING_DESC_F_WRITE: WRITE, VRING_DESC_F_INDIRECT: INDIRECT } = VRING_DESC_F
const HEADER = VIRTIO_NET_HDR_SIZE
const FRAME = HEADER + 60
/** For any frame that the host sends. */
const ROOM = 2048
/** Of an indirect table. */
const MOST_DESCRIPTORS = 1024

/** A ring to spoil, and what else there is in the guest's memory. */
export interface Victim {
  ring: GuestRing
  /** Zeros, which are a frame behind its header as well as room for one: 64 KiB. */
  pool: number
  /** Room for an indirect table. */
  table: number
  /** Where the guest's memory ends. */
  end: number
  bytes: DataView
}

export interface RingCase {
  name: string
  ring: RingName
  /** `'returned'`: the device has no objection, and every buffer comes back. */
  outcome: NetRingFaultCause | 'returned'
  spoil(victim: Victim): void
}

type Spoil = RingCase['spoil']

/** A chain of its own words at head 0, offered. */
const offering =
  (write: Spoil): Spoil =>
  (victim) => {
    write(victim)
    victim.ring.offer(0)
  }

/** Of either ring; `WRITE` is what its buffers have, and a good one has `FRAME` bytes. */
const common = (name: RingName): RingCase[] => {
  const flag = name === 'rx' ? WRITE : 0
  const one = (title: string, outcome: RingCase['outcome'], write: Spoil): RingCase => ({
    name: title,
    ring: name,
    outcome,
    spoil: offering(write),
  })
  const table = (title: string, outcome: RingCase['outcome'], length: number, write: Spoil): RingCase =>
    one(title, outcome, (victim) => {
      victim.ring.describe(0, { address: victim.table, length, flags: INDIRECT })
      write(victim)
    })
  const good = (pool: number) => ({ address: pool, length: name === 'rx' ? ROOM : FRAME, flags: flag })
  return [
    one('a descriptor that comes behind itself', 'chain-loop', ({ ring, pool }) => {
      ring.describe(0, { ...good(pool), flags: flag | NEXT, next: 0 })
    }),
    one('two that come behind each other', 'chain-loop', ({ ring, pool }) => {
      ring.describe(0, { ...good(pool), flags: flag | NEXT, next: 1 })
      ring.describe(1, { ...good(pool), flags: flag | NEXT, next: 0 })
    }),
    one('a buffer behind the end of memory', 'outside-memory', ({ ring, end }) => ring.describe(0, good(end))),
    one('a buffer at the end of all addresses', 'outside-memory', ({ ring }) => {
      ring.describe(0, { address: 2n ** 64n - 16n, length: FRAME, flags: flag })
    }),
    one('a buffer of 4 GiB', 'outside-memory', ({ ring, pool }) => {
      ring.describe(0, { address: pool, length: 0xffff_ffff, flags: flag })
    }),
    one('a next that is not in the ring', 'next-out-of-range', ({ ring, pool }) => {
      ring.describe(0, { ...good(pool), flags: flag | NEXT, next: ring.num })
    }),
    {
      name: 'a head that is not in the ring',
      ring: name,
      outcome: 'head-out-of-range',
      spoil: ({ ring }) => ring.offer(ring.num),
    },
    {
      name: 'an available index that runs ahead of the ring',
      ring: name,
      outcome: 'avail-index',
      spoil: ({ ring }) => {
        ring.availIdx = ring.offered + ring.num + 1
      },
    },
    {
      name: 'an available index that goes back',
      ring: name,
      outcome: 'avail-index',
      spoil: ({ ring }) => {
        ring.availIdx = ring.offered - 1
      },
    },
    table('an indirect table in an indirect table', 'indirect-in-indirect', VRING_DESC_SIZE, ({ ring, table }) => {
      ring.describe(0, { address: table, length: VRING_DESC_SIZE, flags: INDIRECT }, table)
    }),
    table('an indirect table of half a descriptor', 'indirect-table-size', VRING_DESC_SIZE / 2, () => undefined),
    table('an indirect table of no bytes', 'indirect-table-size', 0, () => undefined),
    one('an indirect table behind the end of memory', 'outside-memory', ({ ring, end }) => {
      ring.describe(0, { address: end, length: VRING_DESC_SIZE, flags: INDIRECT })
    }),
    table('an indirect table with a loop', 'chain-loop', 2 * VRING_DESC_SIZE, ({ ring, pool, table }) => {
      ring.describe(0, { ...good(pool), flags: flag | NEXT, next: 1 }, table)
      ring.describe(1, { ...good(pool), flags: flag | NEXT, next: 0 }, table)
    }),
    table(
      'an indirect chain that is too long',
      'chain-too-long',
      (MOST_DESCRIPTORS + 1) * VRING_DESC_SIZE,
      (victim) => {
        const { ring, pool, table } = victim
        for (let i = 0; i <= MOST_DESCRIPTORS; i++) {
          const flags = flag | (i < MOST_DESCRIPTORS ? NEXT : 0)
          ring.describe(i, { address: pool, length: 16, flags, next: i + 1 }, table)
        }
      },
    ),
    table('a valid indirect table', 'returned', VRING_DESC_SIZE, ({ ring, pool, table }) => {
      ring.describe(0, good(pool), table)
    }),
    one('no bytes at all', 'empty-buffer', ({ ring, pool }) => ring.describe(0, { address: pool, flags: flag })),
    {
      name: 'a chain as long as the ring',
      ring: name,
      outcome: 'returned',
      spoil: offering(({ ring, pool }) => {
        const buffers = Array.from({ length: ring.num }, (_, i) => ({
          address: pool + 64 * i,
          length: 64,
          deviceWrites: name === 'rx',
        }))
        ring.chain(buffers)
      }),
    },
  ]
}

const header = (
  name: string,
  outcome: RingCase['outcome'],
  write: (bytes: DataView, at: number) => void,
): RingCase => ({
  name,
  ring: 'tx',
  outcome,
  spoil: offering(({ ring, pool, bytes }) => {
    write(bytes, pool)
    ring.describe(0, { address: pool, length: FRAME })
  }),
})

/** Each alone on a fresh ring. */
export const RING_CASES: readonly RingCase[] = [
  ...common('tx'),
  ...common('rx'),
  {
    name: 'a frame to send that the device may write to',
    ring: 'tx',
    outcome: 'writable-in-tx',
    spoil: offering(({ ring, pool }) => ring.describe(0, { address: pool, length: FRAME, flags: WRITE })),
  },
  {
    name: 'what the device may read behind what it may write',
    ring: 'tx',
    outcome: 'readable-after-writable',
    spoil: offering(({ ring, pool }) => {
      ring.describe(0, { address: pool, length: FRAME, flags: WRITE | NEXT, next: 1 })
      ring.describe(1, { address: pool, length: FRAME })
    }),
  },
  {
    name: 'a buffer to receive into that the device may read',
    ring: 'rx',
    outcome: 'readable-in-rx',
    spoil: offering(({ ring, pool }) => ring.describe(0, { address: pool, length: FRAME })),
  },
  {
    name: 'a frame that is shorter than its header',
    ring: 'tx',
    outcome: 'short-header',
    spoil: offering(({ ring, pool }) => ring.describe(0, { address: pool, length: HEADER - 1 })),
  },
  {
    name: 'a header without a frame',
    ring: 'tx',
    outcome: 'returned',
    spoil: offering(({ ring, pool }) => ring.describe(0, { address: pool, length: HEADER })),
  },
  {
    name: 'a descriptor of no bytes behind a frame',
    ring: 'tx',
    outcome: 'returned',
    spoil: offering(({ ring, pool }) => {
      ring.describe(0, { address: pool, length: FRAME, flags: NEXT, next: 1 })
      ring.describe(1, { address: pool })
    }),
  },
  {
    name: 'an indirect descriptor with another behind it',
    ring: 'tx',
    outcome: 'returned',
    spoil: offering(({ ring, pool, table }) => {
      ring.describe(0, { address: pool, length: FRAME }, table)
      ring.describe(0, { address: table, length: VRING_DESC_SIZE, flags: INDIRECT | NEXT, next: 1 })
      ring.describe(1, { address: pool, length: FRAME })
    }),
  },
  {
    name: 'the same head twice',
    ring: 'tx',
    outcome: 'returned',
    spoil: ({ ring, pool }) => {
      ring.describe(0, { address: pool, length: FRAME })
      ring.offer(0, 0)
    },
  },
  header('a checksum behind the end of its frame', 'header-beyond-frame', (bytes, at) => {
    bytes.setUint8(at + VIRTIO_NET_HDR.flags, 1)
    bytes.setUint16(at + VIRTIO_NET_HDR.csum_start, 0xfff0, true)
  }),
  header('headers that reach behind the end of its frame', 'returned', (bytes, at) => {
    bytes.setUint16(at + VIRTIO_NET_HDR.hdr_len, 1000, true)
  }),
  header('a kind of segmentation that there is not', 'returned', (bytes, at) => {
    bytes.setUint8(at + VIRTIO_NET_HDR.gso_type, 0x13)
  }),
]
