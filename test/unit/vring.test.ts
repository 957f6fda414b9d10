// What a device accepts as a split virtqueue: sizes, alignment, bounds and overlaps, for all rings.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTQUEUE_MAX_SIZE, vringSizes } from '../../lib/abi/virtio.ts'
import { GuestMemoryError, InvalidOptionError, QueueError } from '../../lib/errors.ts'
import { EventFd } from '../../lib/event/index.ts'
import type { MemoryRegion } from '../../lib/memory/index.ts'
import { checkVring, type Vring } from '../../lib/virtio/vring.ts'

type Part = 'desc' | 'avail' | 'used'

const ALIGN = { desc: 16, avail: 2, used: 4 } as const
const PARTS = ['desc', 'avail', 'used'] as const

const num = fc.integer({ min: 0, max: 15 }).map((exponent) => 2 ** exponent)

describe('a split virtqueue', () => {
  let kick: EventFd
  let call: EventFd

  before(() => {
    kick = EventFd.create()
    call = EventFd.create()
  })

  after(() => {
    kick.close()
    call.close()
  })

  /** The three parts in any order, with any gaps, behind `start`; and where they end. */
  const layout = fc
    .record({
      num,
      order: fc.shuffledSubarray([...PARTS], { minLength: 3 }),
      gaps: fc.tuple(fc.nat(100), fc.nat(100), fc.nat(100)),
      start: fc.nat(2 ** 40),
      base: fc.option(fc.integer({ min: 0, max: 0xffff }), { nil: undefined }),
    })
    .map(({ num, order, gaps, start, base }) => {
      const sizes = vringSizes(num)
      const at: Record<Part, number> = { desc: 0, avail: 0, used: 0 }
      let next = start
      for (const [i, part] of order.entries()) {
        next = Math.ceil(next / ALIGN[part]) * ALIGN[part] + gaps[i]! * ALIGN[part]
        at[part] = next
        next += sizes[part]
      }
      return { at, num, base, regions: [{ guestAddress: start, size: next - start }], sizes }
    })

  const ring = (at: Record<Part, number>, num: number, base?: number): Vring => ({
    ...at,
    num,
    kick,
    call,
    ...(base !== undefined && { base }),
  })

  const check = (vring: unknown, regions: readonly MemoryRegion[]): void =>
    checkVring(vring as Vring, regions, 'pair 3 tx')

  it('has parts of the sizes that the specification gives', () => {
    assert.deepEqual(vringSizes(1), { desc: 16, avail: 8, used: 14 })
    assert.deepEqual(vringSizes(256), { desc: 4096, avail: 518, used: 2054 })
    assert.deepEqual(vringSizes(32768), { desc: 524288, avail: 65542, used: 262150 })
  })

  it('is accepted wherever its parts are aligned, apart, and within one region', () => {
    fc.assert(fc.property(layout, ({ at, num, base, regions }) => check(ring(at, num, base), regions)))
  })

  it('is refused with a number of entries that is no power of two in 1..32768', () => {
    const bad = fc.oneof(
      fc.integer({ min: -10, max: 2 * VIRTQUEUE_MAX_SIZE }).filter((n) => n < 1 || (n & (n - 1)) !== 0 || n > 32768),
      fc.constantFrom(Number.NaN, 0.5, Number.POSITIVE_INFINITY, 2 ** 32, 2 ** 32 + 1, 2 ** 33, '16', 16n),
    )
    fc.assert(
      fc.property(layout, bad, ({ at, regions }, entries) => {
        assert.throws(
          () => check(ring(at, entries as number), regions),
          (error: unknown) =>
            error instanceof QueueError && error.code === 'ERR_QUEUE_SIZE' && error.message.startsWith('pair 3 tx: '),
        )
      }),
    )
  })

  it('is refused with a base that is no 16-bit index', () => {
    const bad = fc.oneof(fc.integer({ max: -1 }), fc.integer({ min: 65536 }), fc.constantFrom(Number.NaN, 0.5))
    fc.assert(
      fc.property(layout, bad, ({ at, num, regions }, base) => {
        assert.throws(() => check(ring(at, num, base), regions), { code: 'ERR_QUEUE_SIZE' })
      }),
    )
  })

  it('is refused with a part that is not aligned, and the error names it', () => {
    const names = { desc: 'descriptor table', avail: 'available ring', used: 'used ring' }
    fc.assert(
      fc.property(
        layout,
        fc.constantFrom(...PARTS),
        fc.integer({ min: 1, max: 15 }),
        ({ at, num, regions }, part, off) => {
          fc.pre(off % ALIGN[part] !== 0)
          assert.throws(
            () => check(ring({ ...at, [part]: at[part] + off }, num), regions),
            (error: unknown) =>
              error instanceof GuestMemoryError &&
              error.code === 'ERR_GPA_ALIGN' &&
              error.message.startsWith(`pair 3 tx: ${names[part]} at 0x`) &&
              error.hint === `It must be aligned to ${ALIGN[part]} bytes.`,
          )
        },
      ),
    )
  })

  it('is refused with a part outside of memory, or across the border of two regions', () => {
    fc.assert(
      fc.property(layout, fc.constantFrom(...PARTS), fc.boolean(), ({ at, num, sizes, regions }, part, split) => {
        const region = regions[0]!
        const border = at[part] + sizes[part] - 1
        const cut = split
          ? [
              { guestAddress: region.guestAddress, size: border - region.guestAddress },
              { guestAddress: border, size: region.guestAddress + region.size - border },
            ]
          : [{ guestAddress: region.guestAddress, size: border - region.guestAddress }]
        assert.throws(
          () => check(ring(at, num), cut),
          (error: unknown) =>
            error instanceof GuestMemoryError &&
            error.code === 'ERR_GPA_RANGE' &&
            error.cause instanceof GuestMemoryError,
        )
      }),
    )
  })

  it('is refused with parts that overlap by as little as one unit', () => {
    fc.assert(
      fc.property(layout, fc.constantFrom(...PARTS), fc.constantFrom(...PARTS), ({ at, num, sizes, regions }, a, b) => {
        fc.pre(a !== b)
        // The last aligned place within a.
        const last = Math.floor((at[a] + sizes[a] - 1) / ALIGN[b]) * ALIGN[b]
        const roomy = [{ guestAddress: 0, size: regions[0]!.guestAddress + 2 * regions[0]!.size + 2 ** 20 }]
        assert.throws(() => check(ring({ ...at, [b]: last }, num), roomy), {
          name: 'GuestMemoryError',
          code: 'ERR_GPA_OVERLAP',
        })
      }),
    )
  })

  it('is refused where a field is missing, of another type, or unknown', () => {
    const good = ring({ desc: 0, avail: 4096, used: 8192 }, 16)
    const regions = [{ guestAddress: 0, size: 16384 }]
    check(good, regions)
    const cases: readonly (readonly [vring: unknown, option: string])[] = [
      [null, 'pair 3 tx'],
      [{ ...good, desc: undefined }, 'pair 3 tx.desc'],
      [{ ...good, avail: '4096' }, 'pair 3 tx.avail'],
      [{ ...good, used: 8192n }, 'pair 3 tx.used'],
      [{ ...good, kick: 5 }, 'pair 3 tx.kick'],
      [{ ...good, call: null }, 'pair 3 tx.call'],
      [{ ...good, size: 16 }, 'pair 3 tx.size'],
    ]
    for (const [vring, option] of cases) {
      assert.throws(
        () => check(vring, regions),
        (error: unknown) => error instanceof InvalidOptionError && error.option === option,
      )
    }
  })
})
