// The device's end of a split virtqueue against a driver's end written word by word: what it reads, what it answers, and
// what it does with rings that no driver should write.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VRING_DESC_F, VRING_DESC_SIZE } from '../../lib/abi/virtio.ts'
import { BufferMemory, type GuestMemory, type MemoryRegion } from '../../lib/memory/index.ts'
import { MAX_DESCRIPTORS } from '../../lib/virtio/descriptors.ts'
import { piecesOf } from '../../lib/virtio/guest-bytes.ts'
import type { DescriptorChain, RingFaultCause } from '../../lib/virtio/index.ts'
import { BrokenRing } from '../../lib/virtio/ring-fault.ts'
import { passesEvent, SplitRing } from '../../lib/virtio/split-ring.ts'
import { type Buffer, GuestRing } from '../support/guest-ring.ts'
import { passesEvent as passesEventSpeltOut } from '../support/ring-device.ts'

const { VRING_DESC_F_NEXT: NEXT, VRING_DESC_F_WRITE: WRITE, VRING_DESC_F_INDIRECT: INDIRECT } = VRING_DESC_F

const SIZE = 0x10000
const NUM = 8
/** Where buffers and indirect tables begin. */
const POOL = 0x1000

interface Rig {
  bytes: Uint8Array
  guest: GuestRing
  ring: SplitRing
}

function rig({ num = NUM, indirect = true, eventIdx = false } = {}): Rig {
  const buffer = new ArrayBuffer(SIZE)
  const guest = new GuestRing(buffer, 0, num)
  const ring = new SplitRing(new BufferMemory(buffer), guest, { indirect, eventIdx })
  return { bytes: new Uint8Array(buffer), guest, ring }
}

const taken = (ring: SplitRing): DescriptorChain => ring.take() ?? assert.fail('there is no buffer')

/** Takes one and gives it back. */
function serve(ring: SplitRing, answer = new Uint8Array()): void {
  const chain = taken(ring)
  chain.write(answer)
  ring.giveBack(chain)
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

describe('the device end of a split virtqueue', () => {
  it('takes buffers in the order in which they were made available, and nothing more', () => {
    const { guest, ring } = rig()
    assert.equal(ring.take(), undefined)
    for (const index of [0, 1, 2]) guest.chain([{ address: POOL, length: 1 }], index)
    guest.offer(2, 0)
    guest.offer(1)
    assert.deepEqual([taken(ring).head, taken(ring).head, taken(ring).head], [2, 0, 1])
    assert.equal(ring.take(), undefined)
  })

  it('[RING-USED-03] [RING-USED-02] [BASE-RSVD-04] returns each with its head, and the bytes that were written, in order', () => {
    const { bytes, guest, ring } = rig()
    guest.chain([
      { address: POOL, length: 3, deviceWrites: true },
      { address: POOL + 10, length: 7, deviceWrites: true },
    ])
    guest.chain([{ address: POOL + 100, length: 4 }], 4)
    guest.offer(4, 0)
    serve(ring)
    serve(ring, Uint8Array.of(1, 2, 3, 4, 5))
    assert.equal(guest.usedIdx, 2)
    assert.deepEqual(guest.usedElement(0), { id: 4, length: 0 })
    assert.deepEqual(guest.usedElement(1), { id: 0, length: 5 })
    assert.deepEqual(bytes.slice(POOL, POOL + 3), Uint8Array.of(1, 2, 3))
    assert.deepEqual(bytes.slice(POOL + 10, POOL + 13), Uint8Array.of(4, 5, 0))
  })

  it('[RING-USED-01] publishes a used element only with the used index', () => {
    const { guest, ring } = rig()
    guest.chain([{ address: POOL, length: 4, deviceWrites: true }], 3)
    guest.offer(3)
    const chain = taken(ring)
    chain.write(Uint8Array.of(1))
    assert.equal(guest.usedIdx, 0)
    // Looks from within the store of the index, as a driver on another CPU might.
    const store = Atomics.store
    const order: (readonly [index: number, value: number])[] = []
    Atomics.store = ((array: Uint16Array, index: number, value: number) => {
      order.push([array instanceof Uint16Array ? -1 : index, value])
      return store(array, index, value)
    }) as typeof Atomics.store
    try {
      ring.giveBack(chain)
    } finally {
      Atomics.store = store
    }
    assert.deepEqual(order, [
      [0, 3],
      [1, 1],
      [-1, 1],
    ])
  })

  it('goes on when the indexes come round', () => {
    const { guest, ring } = rig({ num: 2 })
    guest.chain([{ address: POOL, length: 1, deviceWrites: true }])
    for (let i = 0; i < 65_540; i++) {
      guest.offer(0)
      serve(ring)
    }
    assert.equal(guest.usedIdx, 4)
    assert.equal(ring.take(), undefined)
  })

  it('[RING-FRAME-01] reads and writes the same however the driver cut a message', () => {
    const message = 'the quick brown fox'
    const answer = Uint8Array.from({ length: 23 }, (_, i) => i + 1)
    const cuts = (length: number) => fc.uniqueArray(fc.integer({ min: 1, max: length - 1 }), { maxLength: 10 })
    fc.assert(
      fc.property(
        cuts(message.length),
        cuts(answer.length),
        fc.boolean(),
        fc.nat(4),
        (reads, writes, table, direct) => {
          const { bytes, guest, ring } = rig({ num: 32 })
          bytes.set(new TextEncoder().encode(message), POOL)
          const cut = (at: number, length: number, points: number[], deviceWrites: boolean): Buffer[] => {
            const ends = [...points.toSorted((a, b) => a - b), length]
            return ends.map((end, i) => ({
              address: at + (ends[i - 1] ?? 0),
              length: end - (ends[i - 1] ?? 0),
              deviceWrites,
            }))
          }
          const buffers = [...cut(POOL, message.length, reads, false), ...cut(POOL + 64, answer.length, writes, true)]
          // Some descriptors in the ring, the others in a table behind them.
          const inRing = table ? Math.min(direct, buffers.length - 1) : buffers.length
          guest.chain(buffers.slice(0, inRing))
          if (table) {
            guest.indirect(buffers.slice(inRing), POOL + 512, inRing)
            for (let i = 0; i < inRing; i++) {
              const { address, length, deviceWrites } = buffers[i]!
              guest.describe(i, { address, length, flags: NEXT | (deviceWrites ? WRITE : 0), next: i + 1 })
            }
          }
          guest.offer(0)
          const chain = taken(ring)
          assert.deepEqual([chain.readable, chain.writable], [message.length, answer.length])
          assert.equal(text(chain.read(4)) + text(chain.read(1000)), message)
          assert.equal(chain.read(1).length, 0)
          assert.equal(chain.write(answer.subarray(0, 5)) + chain.write(answer.subarray(5)), answer.length)
          assert.equal(chain.write(Uint8Array.of(1)), 0)
          assert.deepEqual(bytes.slice(POOL + 64, POOL + 64 + answer.length), answer)
          assert.equal(text(bytes.slice(POOL, POOL + message.length)), message)
        },
      ),
    )
  })

  it('[RING-IND-01] ignores WRITE on the descriptor of an indirect table', () => {
    const { guest, ring } = rig()
    guest.indirect([{ address: POOL + 100, length: 2 }], POOL, 0, WRITE)
    guest.offer(0)
    const chain = taken(ring)
    assert.deepEqual([chain.readable, chain.writable], [2, 0])
  })

  it('[RING-IND-02] follows direct descriptors that end in an indirect one', () => {
    const { guest, ring } = rig()
    guest.describe(5, { address: POOL, length: 3, flags: NEXT, next: 2 })
    guest.indirect(
      [
        { address: POOL + 100, length: 2 },
        { address: POOL + 200, length: 9, deviceWrites: true },
      ],
      POOL + 16,
      2,
    )
    guest.offer(5)
    const chain = taken(ring)
    assert.deepEqual([chain.head, chain.readable, chain.writable, chain.descriptors], [5, 5, 9, 4])
  })

  it('[RING-DESC-01] [RING-DESC-03] writes to nothing but writable buffers and the used ring', () => {
    const length = fc.integer({ min: 0, max: 60 })
    fc.assert(
      fc.property(length, length, fc.boolean(), fc.boolean(), (read, write, table, eventIdx) => {
        const { bytes, guest, ring } = rig({ eventIdx })
        bytes.fill(0xa5, POOL)
        const buffers = [
          { address: POOL + 0x800, length: read },
          { address: POOL + 0x900, length: write, deviceWrites: true },
        ]
        if (table) guest.indirect(buffers, POOL + 0x400)
        else guest.chain(buffers)
        guest.offer(0)
        const before = bytes.slice()
        ring.refuseKicks()
        serve(ring, new Uint8Array(100).fill(1))
        ring.interruptWanted()
        ring.wantKicks()
        for (const [at, byte] of bytes.entries()) {
          const mayChange = (at >= guest.used && at < guest.end) || (at >= POOL + 0x900 && at < POOL + 0x900 + write)
          if (!mayChange) assert.equal(byte, before[at], `byte ${at}`)
        }
      }),
      { numRuns: 30 },
    )
  })

  it('[RING-DESC-02] reads no writable buffer, and each readable byte once', () => {
    const reads: [at: number, length: number][] = []
    const buffer = new ArrayBuffer(SIZE)
    const memory = new BufferMemory(buffer)
    const guest = new GuestRing(buffer, 0, NUM)
    const watched: GuestMemory = Object.create(memory, {
      regions: { value: memory.regions },
      window: { value: (at: number, length: number) => memory.window(at, length) },
      write: { value: (at: number, source: Uint8Array) => memory.write(at, source) },
      read: {
        value: (at: number, target: Uint8Array) => {
          reads.push([at, target.length])
          memory.read(at, target)
        },
      },
    })
    const ring = new SplitRing(watched, guest, { indirect: true, eventIdx: false })
    guest.indirect(
      [
        { address: POOL + 100, length: 8 },
        { address: POOL + 200, length: 8, deviceWrites: true },
      ],
      POOL,
    )
    guest.offer(0)
    const chain = taken(ring)
    chain.read(3)
    chain.read(100)
    chain.write(new Uint8Array(8))
    ring.giveBack(chain)
    assert.deepEqual(reads, [
      [POOL, VRING_DESC_SIZE],
      [POOL + VRING_DESC_SIZE, VRING_DESC_SIZE],
      [POOL + 100, 3],
      [POOL + 103, 5],
    ])
  })

  it('goes by what a descriptor said when it was read, though the driver changes it', () => {
    const { bytes, guest, ring } = rig()
    bytes.set([1, 2, 3], POOL)
    guest.chain([{ address: POOL, length: 3 }])
    guest.offer(0)
    const chain = taken(ring)
    guest.describe(0, { address: 2n ** 60n, length: 0xffff_ffff, flags: WRITE })
    const copy = chain.read(3)
    bytes.set([7, 7, 7], POOL)
    assert.deepEqual(copy, Uint8Array.of(1, 2, 3))
  })

  it('takes buffers that go from one region into the next, and refuses them over a gap', () => {
    const at = (...regions: MemoryRegion[]) => ({ regions }) as unknown as GuestMemory
    const first = { guestAddress: 0x1000, size: 0x1000 }
    const next = { guestAddress: 0x2000, size: 0x1000 }
    assert.deepEqual(piecesOf(at(first, next), 0x1ff0n, 0x20), [
      { address: 0x1ff0, length: 0x10 },
      { address: 0x2000, length: 0x10 },
    ])
    assert.equal(piecesOf(at(first, { guestAddress: 0x2001, size: 0x1000 }), 0x1ff0n, 0x20), undefined)
    assert.equal(piecesOf(at(first, next), 0x2ff0n, 0x11), undefined)
    assert.equal(piecesOf(at(first), 2n ** 64n - 1n, 1), undefined)
    assert.deepEqual(piecesOf(at(first), 2n ** 64n - 1n, 0), [])
  })

  describe('and interrupts', () => {
    const one = (options: { eventIdx: boolean }): Rig => {
      const made = rig(options)
      made.guest.chain([{ address: POOL, length: 1, deviceWrites: true }])
      return made
    }

    it('[RING-UNOTIF-03] [RING-UNOTIF-01] without EVENT_IDX wants one for any used buffer, whatever used_event says', () => {
      const { guest, ring } = one({ eventIdx: false })
      for (const event of [0, 1, 2, 77, 0xffff]) {
        guest.usedEvent = event
        guest.offer(0)
        serve(ring)
        assert.equal(ring.interruptWanted(), true)
      }
    })

    it('wants none where nothing was used', () => {
      for (const eventIdx of [true, false]) assert.equal(one({ eventIdx }).ring.interruptWanted(), false)
    })

    it('[RING-UNOTIF-02] without EVENT_IDX wants none where the flag says so', () => {
      const { guest, ring } = one({ eventIdx: false })
      guest.availFlags = 1
      guest.offer(0)
      serve(ring)
      assert.equal(ring.interruptWanted(), false)
      // Not for what was suppressed, either, but for the next one again.
      guest.availFlags = 0
      assert.equal(ring.interruptWanted(), false)
      guest.offer(0)
      serve(ring)
      assert.equal(ring.interruptWanted(), true)
    })

    it('[RING-UNOTIF-04] with EVENT_IDX is not impressed by the flag', () => {
      const { guest, ring } = one({ eventIdx: true })
      guest.availFlags = 1
      guest.usedEvent = 0
      guest.offer(0)
      serve(ring)
      assert.equal(ring.interruptWanted(), true)
    })

    it('[RING-UNOTIF-05] [RING-UNOTIF-06] with EVENT_IDX wants one where a batch passes used_event, and no other', () => {
      const batches = fc.array(fc.record({ count: fc.nat(8), ahead: fc.integer({ min: -3, max: 10 }) }), {
        maxLength: 30,
      })
      fc.assert(
        fc.property(batches, fc.integer({ min: 0, max: 8 }), (list, start) => {
          const { guest, ring } = one({ eventIdx: true })
          let used = 0n
          for (const { count, ahead } of [{ count: start, ahead: 0 }, ...list]) {
            const event = Number(BigInt.asUintN(16, used + BigInt(ahead)))
            guest.usedEvent = event
            const before = used
            for (let i = 0; i < count; i++, used++) {
              guest.offer(0)
              serve(ring)
            }
            assert.equal(ring.interruptWanted(), passesEventSpeltOut(event, before, used))
          }
        }),
      )
    })

    it('decides right where the indexes come round', () => {
      const u16 = fc.integer({ min: 0, max: 0xffff })
      fc.assert(
        fc.property(u16, u16, fc.nat(300), (event, before, count) => {
          const now = (before + count) & 0xffff
          const expected = passesEventSpeltOut(event, BigInt(before), BigInt(before + count))
          assert.equal(passesEvent(event, now, before), expected)
          assert.equal(passesEvent(now, (now + 1) & 0xffff, before), true)
        }),
      )
    })
  })

  describe('and kicks', () => {
    it('[RING-ANOTIF-01] without EVENT_IDX refuses and wants them by the flag', () => {
      const { guest, ring } = rig()
      ring.refuseKicks()
      assert.equal(guest.usedFlags, 1)
      assert.equal(ring.wantKicks(), false)
      assert.equal(guest.usedFlags, 0)
      assert.equal(guest.availEvent, 0)
    })

    it('[RING-ANOTIF-02] with EVENT_IDX leaves the flag alone, and asks at the index that comes next', () => {
      const { guest, ring } = rig({ eventIdx: true })
      guest.chain([{ address: POOL, length: 1, deviceWrites: true }])
      for (let i = 1; i <= 20; i++) {
        guest.offer(0)
        ring.refuseKicks()
        assert.equal(guest.availEvent, i - 1)
        serve(ring)
        assert.equal(ring.wantKicks(), false)
        assert.equal(guest.availEvent, i)
        assert.equal(guest.usedFlags, 0)
      }
    })

    it('sees what came before it asked', () => {
      for (const eventIdx of [true, false]) {
        const { guest, ring } = rig({ eventIdx })
        guest.chain([{ address: POOL, length: 1 }])
        guest.offer(0)
        assert.equal(ring.wantKicks(), true)
      }
    })
  })

  describe('refuses', () => {
    const refused = (cause: RingFaultCause, { ring }: Rig, message?: RegExp) => {
      assert.throws(
        () => ring.take(),
        (error) => {
          assert.ok(error instanceof BrokenRing, String(error))
          assert.deepEqual([error.code, error.fault, error.context.fault], ['ERR_QUEUE_BROKEN', cause, cause])
          if (message !== undefined) assert.match(error.message, message)
          return true
        },
      )
    }

    it('an available index ahead by more than the ring has, or behind', () => {
      const made = rig()
      made.guest.availIdx = NUM + 1
      refused('avail-index', made)
      made.guest.availIdx = 0xffff
      refused('avail-index', made)
    })

    it('a head that is not in the ring', () => {
      for (const head of [NUM, 0xffff]) {
        const made = rig()
        made.guest.offer(head)
        refused('head-out-of-range', made)
      }
    })

    it('a next that is not in the ring, or not in the table', () => {
      const made = rig()
      made.guest.describe(0, { address: POOL, length: 1, flags: NEXT, next: NUM })
      made.guest.offer(0)
      refused('next-out-of-range', made)
      const other = rig()
      other.guest.indirect([{ address: POOL, length: 1 }], POOL)
      other.guest.describe(0, { address: POOL, length: 1, flags: NEXT, next: 1 }, POOL)
      other.guest.offer(0)
      refused('next-out-of-range', other, /a table of 1/)
    })

    it('a loop in the ring and in a table, of one descriptor or several', () => {
      for (const size of [1, 2, NUM]) {
        for (const table of [undefined, POOL]) {
          const made = rig()
          for (let i = 0; i < size; i++) {
            made.guest.describe(i, { address: POOL, length: 1, flags: NEXT, next: (i + 1) % size }, table)
          }
          if (table !== undefined) {
            made.guest.describe(0, { address: table, length: size * VRING_DESC_SIZE, flags: INDIRECT })
          }
          made.guest.offer(0)
          refused('chain-loop', made)
        }
      }
    })

    it('[RING-FRAME-02] a chain of more descriptors than anybody needs, and takes the longest', () => {
      for (const count of [MAX_DESCRIPTORS - 1, MAX_DESCRIPTORS]) {
        const made = rig()
        made.guest.indirect(
          Array.from({ length: count }, () => ({ address: POOL, length: 1 })),
          POOL,
        )
        made.guest.offer(0)
        if (count < MAX_DESCRIPTORS) assert.equal(taken(made.ring).readable, count)
        else refused('chain-too-long', made)
      }
    })

    it('a table without INDIRECT_DESC, in a table, with another behind it, of no or of half an entry', () => {
      const without = rig({ indirect: false })
      without.guest.indirect([{ address: POOL, length: 1 }], POOL)
      without.guest.offer(0)
      refused('indirect-not-agreed', without)
      const nested = rig()
      nested.guest.indirect([{ address: POOL, length: 1 }], POOL)
      nested.guest.describe(0, { address: POOL, length: 16, flags: INDIRECT }, POOL)
      nested.guest.offer(0)
      refused('indirect-in-indirect', nested)
      const more = rig()
      more.guest.indirect([{ address: POOL, length: 1 }], POOL, 0, NEXT)
      more.guest.offer(0)
      refused('indirect-with-next', more)
      for (const length of [0, 1, 15, 17, 0xffff_ffff]) {
        const made = rig()
        made.guest.describe(0, { address: POOL, length, flags: INDIRECT })
        made.guest.offer(0)
        refused('indirect-table-size', made)
      }
    })

    it('a buffer or a table that is not guest memory, and says where it would be', () => {
      for (const flags of [0, WRITE, INDIRECT]) {
        for (const address of [BigInt(SIZE), BigInt(SIZE) - 15n, 2n ** 53n, 2n ** 64n - 16n]) {
          const made = rig()
          made.guest.describe(0, { address, length: 16, flags })
          made.guest.offer(0)
          refused('outside-memory', made, new RegExp(`0x${address.toString(16)}, \\+0x10`))
        }
      }
    })

    it('a readable buffer behind a writable one', () => {
      const made = rig()
      made.guest.chain([
        { address: POOL, length: 1, deviceWrites: true },
        { address: POOL, length: 1 },
      ])
      made.guest.offer(0)
      refused('readable-after-writable', made)
    })
  })

  it('ends with a buffer or a cause for any bytes in ring and tables, within memory and a bounded number of steps', () => {
    const descriptor = fc.record({
      address: fc.oneof(fc.nat(SIZE + 64).map(BigInt), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
      length: fc.oneof(
        fc.nat(64),
        fc.nat(NUM).map((n) => n * VRING_DESC_SIZE),
        fc.nat(0xffff_ffff),
      ),
      flags: fc.oneof(fc.nat(7), fc.nat(0xffff)),
      next: fc.oneof(fc.nat(NUM - 1), fc.nat(0xffff)),
    })
    const table = fc.array(descriptor, { minLength: NUM, maxLength: NUM })
    const seen = new Set<string>()
    fc.assert(
      fc.property(table, table, fc.nat(NUM), fc.nat(NUM + 1), fc.boolean(), (direct, second, head, ahead, indirect) => {
        const { guest, ring } = rig({ indirect })
        for (const [i, entry] of direct.entries()) {
          // Every other table that is named is there.
          const points = (entry.flags & INDIRECT) !== 0 && i % 2 === 0
          guest.describe(i, points ? { ...entry, address: POOL, length: NUM * VRING_DESC_SIZE } : entry)
        }
        for (const [i, entry] of second.entries()) guest.describe(i, entry, POOL)
        guest.offer(...Array.from({ length: ahead }, () => head))
        try {
          const chain = ring.take()
          if (chain === undefined) return
          seen.add('buffer')
          chain.read(1000)
          chain.write(new Uint8Array(1000))
          ring.giveBack(chain)
        } catch (error) {
          // Also what BufferMemory says of a range that is not within it: that would be our mistake.
          assert.ok(error instanceof BrokenRing, String(error))
          seen.add(error.fault)
        }
      }),
      { numRuns: 3000 },
    )
    for (const what of ['buffer', 'avail-index', 'head-out-of-range', 'outside-memory', 'indirect-not-agreed']) {
      assert.ok(seen.has(what), `never drawn: ${what}`)
    }
  })
})
