// Guest memory: one specification, obeyed by memory over an ArrayBuffer and by memory that the kernel can reach.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { GuestMemoryError } from '../../lib/errors.ts'
import { formatRange, GuestMemory, type MemoryRegion, regionOf } from '../../lib/memory/index.ts'

const SIZE = 8192

const implementations: Readonly<Record<string, () => GuestMemory>> = {
  'over an ArrayBuffer': () => GuestMemory.fromArrayBuffer(new ArrayBuffer(SIZE)),
  'on a memfd': () => GuestMemory.allocate({ size: SIZE }),
  'on anonymous memory': () => GuestMemory.allocate({ size: SIZE, backing: 'anonymous' }),
}

/** A range that lies within memory, and one that does not. */
const inside = fc.nat(SIZE - 1).chain((at) => fc.tuple(fc.constant(at), fc.integer({ min: 0, max: SIZE - at })))
const outside = fc.oneof(
  fc.nat(SIZE).chain((at) => fc.tuple(fc.constant(at), fc.integer({ min: SIZE - at + 1, max: 2 * SIZE }))),
  fc.tuple(fc.integer({ min: SIZE, max: Number.MAX_SAFE_INTEGER }), fc.nat(16)),
  fc.tuple(fc.constantFrom(-1, -SIZE, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 64), fc.nat(16)),
)

const isOutside = (error: unknown): boolean => error instanceof GuestMemoryError && error.code === 'ERR_GPA_RANGE'
const isClosed = { name: 'StateError', code: 'ERR_CLOSED' }

describe('guest memory', () => {
  for (const [name, make] of Object.entries(implementations)) {
    describe(name, () => {
      let memory: GuestMemory

      beforeEach(() => {
        memory = make()
      })

      afterEach(() => memory.close())

      it('is one region at address 0, filled with zeros', () => {
        assert.deepEqual(memory.regions, [{ guestAddress: 0, size: SIZE }])
        const all = new Uint8Array(SIZE).fill(1)
        memory.read(0, all)
        assert.deepEqual(all, new Uint8Array(SIZE))
      })

      it('holds what was written last, byte for byte, through copies and windows alike', () => {
        const model = new Uint8Array(SIZE)
        const writes = fc.array(fc.tuple(inside, fc.nat(255), fc.boolean()), { maxLength: 8 })
        fc.assert(
          fc.property(writes, inside, (changes, [at, length]) => {
            for (const [[address, size], byte, throughWindow] of changes) {
              model.fill(byte, address, address + size)
              if (throughWindow) memory.window(address, size).fill(byte)
              else memory.write(address, new Uint8Array(size).fill(byte))
            }
            const copy = new Uint8Array(length)
            memory.read(at, copy)
            assert.deepEqual(copy, model.subarray(at, at + length))
            assert.deepEqual(memory.window(at, length), model.slice(at, at + length))
          }),
        )
      })

      it('copies: what is read does not follow, what was written is not followed', () => {
        const source = Uint8Array.of(1, 2, 3)
        memory.write(100, source)
        source.fill(9)
        const target = new Uint8Array(3)
        memory.read(100, target)
        memory.window(100, 3).fill(7)
        assert.deepEqual(target, Uint8Array.of(1, 2, 3))
        assert.deepEqual(memory.window(100, 3), Uint8Array.of(7, 7, 7))
      })

      it('takes a part of a larger array, and touches nothing else of it', () => {
        const array = new Uint8Array(16).fill(5)
        memory.write(0, Uint8Array.of(1, 2, 3, 4))
        memory.read(0, array.subarray(6, 10))
        assert.deepEqual(array, Uint8Array.of(5, 5, 5, 5, 5, 5, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5))
        memory.write(8, array.subarray(6, 8))
        assert.deepEqual(memory.window(7, 4), Uint8Array.of(0, 1, 2, 0))
      })

      it('has windows without copy: two of one range are one', () => {
        const a = memory.window(4096, 64)
        const b = memory.window(4128, 32)
        a[32] = 42
        assert.equal(b[0], 42)
        assert.equal(a.byteLength, 64)
      })

      it('refuses every range that is not within it, and changes nothing', () => {
        fc.assert(
          fc.property(outside, ([at, length]) => {
            assert.throws(() => memory.read(at, new Uint8Array(length)), isOutside)
            assert.throws(() => memory.write(at, new Uint8Array(length).fill(1)), isOutside)
            assert.throws(() => memory.window(at, length), isOutside)
          }),
        )
        assert.ok(memory.window(0, SIZE).every((byte) => byte === 0))
      })

      it('refuses lengths of windows that are none', () => {
        for (const length of [-1, 0.5, Number.NaN, 2 ** 53]) assert.throws(() => memory.window(0, length), isOutside)
      })

      it('is closed once and for all', () => {
        memory.close()
        memory.close()
        assert.throws(() => memory.read(0, new Uint8Array(1)), isClosed)
        assert.throws(() => memory.write(0, new Uint8Array(1)), isClosed)
        assert.throws(() => memory.window(0, 1), isClosed)
      })
    })
  }

  for (const backing of ['memfd', 'anonymous'] as const) {
    it(`detaches its windows when it is closed: ${backing}`, () => {
      const memory = GuestMemory.allocate({ size: SIZE, backing })
      const windows = [memory.window(0, SIZE), memory.window(16, 16)]
      memory.close()
      for (const window of windows) assert.deepEqual([window.byteLength, window[0]], [0, undefined])
    })
  }

  describe('in several regions', () => {
    /** Regions by ascending address that do not overlap, some of them adjacent. */
    const regions = fc
      .array(fc.tuple(fc.nat(100), fc.integer({ min: 1, max: 100 })), { minLength: 1, maxLength: 6 })
      .map((parts) => {
        let next = 0
        return parts.map(([gap, size]): MemoryRegion => {
          const guestAddress = next + gap
          next = guestAddress + size
          return { guestAddress, size }
        })
      })

    it('finds the region that holds a whole range, and no other', () => {
      fc.assert(
        fc.property(regions, fc.nat(1300), fc.nat(120), (regions, at, length) => {
          const holds = regions.filter(
            ({ guestAddress, size }) =>
              at >= guestAddress && at < guestAddress + size && at + length <= guestAddress + size,
          )
          if (holds.length === 1) assert.equal(regionOf(regions, at, length), holds[0])
          else assert.throws(() => regionOf(regions, at, length), isOutside)
        }),
      )
    })

    it('is listed in the hint of what is refused', () => {
      const two = [
        { guestAddress: 0, size: 0x1000 },
        { guestAddress: 0x100000, size: 0x2000 },
      ]
      assert.throws(() => regionOf(two, 0xfff, 2), {
        message: /^\[0xfff, \+0x2\) does not lie within one region/,
        hint: 'Guest memory is [0x0, +0x1000), [0x100000, +0x2000).',
        context: { guestAddress: 0xfff, length: 2 },
      })
      assert.equal(formatRange(4096, 16), '[0x1000, +0x10)')
    })
  })
})
