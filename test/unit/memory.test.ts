// Guest memory: one specification, obeyed by memory over an ArrayBuffer and by memory that the kernel can reach.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { GuestMemoryError, InvalidOptionError, SystemCallError } from '../../lib/errors.ts'
import { formatRange, GuestMemory, type MemoryRegion, type NativeMemory, regionOf } from '../../lib/memory/index.ts'
import { type RecordedCall, recording } from '../support/failing-binding.ts'

const SIZE = 8192
const GiB = 2 ** 30

const LOW: readonly MemoryRegion[] = [{ guestAddress: 0, size: SIZE }]
/** Holes of one page and of terabytes, two neighbours, and the last page there can be. */
const SCATTERED: readonly MemoryRegion[] = [
  { guestAddress: 0x2000, size: 0x1000 },
  { guestAddress: 0x4000, size: 0x2000 },
  { guestAddress: 0x6000, size: 0x1000 },
  { guestAddress: 5 * GiB, size: SIZE },
  { guestAddress: 2 ** 52 - 0x1000, size: 0x1000 },
]

type Implementation = readonly [name: string, regions: readonly MemoryRegion[], make: () => GuestMemory]

const implementations: readonly Implementation[] = [
  ['over an ArrayBuffer', LOW, () => GuestMemory.fromArrayBuffer(new ArrayBuffer(SIZE))],
  ['on a memfd', LOW, () => GuestMemory.allocate({ size: SIZE })],
  ['on anonymous memory', LOW, () => GuestMemory.allocate({ size: SIZE, backing: 'anonymous' })],
  ['on memfds with holes between', SCATTERED, () => GuestMemory.allocate({ regions: SCATTERED })],
  [
    'on anonymous memory with holes between, named in any order',
    SCATTERED,
    () => GuestMemory.allocate({ regions: SCATTERED.toReversed(), backing: 'anonymous', thp: false }),
  ],
  ['on memfds taken in advance', SCATTERED, () => GuestMemory.allocate({ regions: SCATTERED, prefault: true })],
  [
    'on regions that came and went',
    SCATTERED,
    () => {
      const memory = GuestMemory.allocate({ regions: [{ guestAddress: 0x3000, size: 0x4000 }], seal: false })
      memory.write(0x3000, new Uint8Array(0x4000).fill(1))
      memory.removeRegion(0x3000)
      for (const region of SCATTERED.toReversed()) memory.addRegion(region)
      return memory
    },
  ],
]

const endOf = ({ guestAddress, size }: MemoryRegion): number => guestAddress + size

/** A range that lies within one region, with how it was said, and one that does not. */
const insideOf = (regions: readonly MemoryRegion[]): fc.Arbitrary<[at: number, length: number]> =>
  fc
    .constantFrom(...regions)
    .chain((region) =>
      fc
        .nat(region.size - 1)
        .chain((at) => fc.tuple(fc.constant(region.guestAddress + at), fc.integer({ min: 0, max: region.size - at }))),
    )
const outsideOf = (regions: readonly MemoryRegion[]): fc.Arbitrary<[at: number, length: number]> =>
  fc.oneof(
    fc
      .constantFrom(...regions)
      .chain((region) =>
        fc
          .nat(region.size - 1)
          .chain((at) =>
            fc.tuple(fc.constant(region.guestAddress + at), fc.integer({ min: region.size - at + 1, max: 2 * SIZE })),
          ),
      ),
    fc
      .tuple(fc.oneof(fc.constantFrom(...regions.map(endOf)), fc.nat(Number.MAX_SAFE_INTEGER)), fc.nat(16))
      .filter(([at]) => regions.every((region) => at < region.guestAddress || at >= endOf(region))),
    fc.tuple(fc.constantFrom(-1, -SIZE, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 64), fc.nat(16)),
  )

const isOutside = (error: unknown): boolean => error instanceof GuestMemoryError && error.code === 'ERR_GPA_RANGE'
const isClosed = { name: 'StateError', code: 'ERR_CLOSED' }

describe('guest memory', () => {
  for (const [name, regions, make] of implementations) {
    describe(name, () => {
      const first = regions[0]!.guestAddress
      const inside = insideOf(regions)
      const outside = outsideOf(regions)
      let memory: GuestMemory

      beforeEach(() => {
        memory = make()
      })

      afterEach(() => memory.close())

      it('is its regions by ascending address, filled with zeros', () => {
        assert.deepEqual(memory.regions, regions)
        for (const { guestAddress, size } of regions) {
          const all = new Uint8Array(size).fill(1)
          memory.read(guestAddress, all)
          assert.deepEqual(all, new Uint8Array(size))
        }
      })

      it('holds what was written last, byte for byte, through copies and windows alike', () => {
        const models = regions.map((region) => ({ ...region, bytes: new Uint8Array(region.size) }))
        const modelOf = (at: number, length: number): Uint8Array => {
          const model = models.find((each) => at >= each.guestAddress && at < endOf(each))!
          return model.bytes.subarray(at - model.guestAddress, at - model.guestAddress + length)
        }
        const writes = fc.array(fc.tuple(inside, fc.nat(255), fc.boolean()), { maxLength: 8 })
        fc.assert(
          fc.property(writes, inside, (changes, [at, length]) => {
            for (const [[address, size], byte, throughWindow] of changes) {
              modelOf(address, size).fill(byte)
              if (throughWindow) memory.window(address, size).fill(byte)
              else memory.write(address, new Uint8Array(size).fill(byte))
            }
            const copy = new Uint8Array(length)
            memory.read(at, copy)
            assert.deepEqual(copy, modelOf(at, length))
            assert.deepEqual(memory.window(at, length), modelOf(at, length).slice())
          }),
        )
      })

      it('copies: what is read does not follow, what was written is not followed', () => {
        const source = Uint8Array.of(1, 2, 3)
        memory.write(first + 100, source)
        source.fill(9)
        const target = new Uint8Array(3)
        memory.read(first + 100, target)
        memory.window(first + 100, 3).fill(7)
        assert.deepEqual(target, Uint8Array.of(1, 2, 3))
        assert.deepEqual(memory.window(first + 100, 3), Uint8Array.of(7, 7, 7))
      })

      it('takes a part of a larger array, and touches nothing else of it', () => {
        const array = new Uint8Array(16).fill(5)
        memory.write(first, Uint8Array.of(1, 2, 3, 4))
        memory.read(first, array.subarray(6, 10))
        assert.deepEqual(array, Uint8Array.of(5, 5, 5, 5, 5, 5, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5))
        memory.write(first + 8, array.subarray(6, 8))
        assert.deepEqual(memory.window(first + 7, 4), Uint8Array.of(0, 1, 2, 0))
      })

      it('has windows without copy: two of one range are one', () => {
        const a = memory.window(first + 2048, 64)
        const b = memory.window(first + 2080, 32)
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
        for (const { guestAddress, size } of regions) {
          assert.ok(memory.window(guestAddress, size).every((byte) => byte === 0))
        }
      })

      it('refuses lengths of windows that are none', () => {
        for (const length of [-1, 0.5, Number.NaN, 2 ** 53])
          assert.throws(() => memory.window(first, length), isOutside)
      })

      it('is closed once and for all', () => {
        memory.close()
        memory.close()
        assert.throws(() => memory.read(first, new Uint8Array(1)), isClosed)
        assert.throws(() => memory.write(first, new Uint8Array(1)), isClosed)
        assert.throws(() => memory.window(first, 1), isClosed)
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

  it('of somebody else stays mapped when it is closed', () => {
    const owner = GuestMemory.allocate({ size: 8192, backing: 'anonymous' })
    const address = owner.hostAddress(0, 8192)
    GuestMemory.adopt({ regions: [{ guestAddress: 0, size: 8192, address, owner }] }).close()
    const byte = new Uint8Array(1)
    owner.write(8191, Uint8Array.of(7))
    owner.read(8191, byte)
    owner.close()
    assert.equal(byte[0], 7)
  })

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
        fc.property(regions, fc.nat(), fc.nat(120), (regions, anywhere, length) => {
          // From the first address to a few behind the last region.
          const at = anywhere % (endOf(regions.at(-1)!) + 10)
          const holds = regions.filter(
            ({ guestAddress, size }) =>
              at >= guestAddress && at < guestAddress + size && at + length <= guestAddress + size,
          )
          if (holds.length === 1) assert.equal(regionOf(regions, at, length), holds[0])
          else assert.throws(() => regionOf(regions, at, length), isOutside)
        }),
        { numRuns: 1000 },
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

  describe('allocated with options that are wrong', () => {
    const one = { guestAddress: 0, size: 4096 }
    const region = (change: object) => ({ regions: [{ ...one, ...change }] })
    const MiB = 2 ** 20
    const cases: readonly (readonly [what: string, options: object, code: string, message: RegExp])[] = [
      ['size and regions', { size: 4096, regions: [one] }, 'ERR_OPTION_CONFLICT', /^regions: /],
      ['neither', {}, 'ERR_OPTION_TYPE', /^size: /],
      ['no region', { regions: [] }, 'ERR_OPTION_RANGE', /^regions: /],
      ['one region instead of an array', { regions: one }, 'ERR_OPTION_TYPE', /^regions: /],
      ['a region that is null', { regions: [null] }, 'ERR_OPTION_TYPE', /^regions\[0\]: /],
      ['an unknown value', region({ host: 1 }), 'ERR_OPTION_UNKNOWN', /^regions\[0\]\.host: /],
      ['an address that is a bigint', region({ guestAddress: 0n }), 'ERR_OPTION_TYPE', /^regions\[0\]\.guestAddress: /],
      ['an address below 0', region({ guestAddress: -4096 }), 'ERR_OPTION_RANGE', /^regions\[0\]\.guestAddress: /],
      ['an address of 2^52', region({ guestAddress: 2 ** 52 }), 'ERR_OPTION_RANGE', /^regions\[0\]\.guestAddress: /],
      [
        'an end beyond 2^52',
        region({ guestAddress: 2 ** 52 - 4096, size: 8192 }),
        'ERR_OPTION_RANGE',
        /^regions\[0\]\.size: .*ends beyond guest-physical address 2\^52/,
      ],
      ['more than 2^52 bytes', { size: 2 ** 52 + 4096 }, 'ERR_OPTION_RANGE', /^size: /],
      ['no bytes', region({ size: 0 }), 'ERR_OPTION_RANGE', /^regions\[0\]\.size: .*not 0/],
      ['half a page', region({ size: 2048 }), 'ERR_OPTION_RANGE', /^regions\[0\]\.size: .*4096, not 2048/],
      [
        'an address within a page',
        region({ guestAddress: 2048 }),
        'ERR_GPA_ALIGN',
        /^regions\[0\]\.guestAddress: .*0x800/,
      ],
      [
        'a region that begins in another',
        {
          regions: [
            { guestAddress: 4096, size: 4096 },
            { guestAddress: 0, size: 8192 },
          ],
        },
        'ERR_GPA_OVERLAP',
        /^the regions \[0x0, \+0x2000\) and \[0x1000, \+0x1000\) overlap/,
      ],
      ['a region twice', { regions: [one, one] }, 'ERR_GPA_OVERLAP', /overlap/],
      ['a page size of usual memory', { size: 4096, pageSize: 4096 }, 'ERR_OPTION_CONFLICT', /^pageSize: /],
      [
        'a page size there is not',
        { size: 4096, backing: 'hugetlb', pageSize: 4096 },
        'ERR_OPTION_RANGE',
        /^pageSize: /,
      ],
      ['half a huge page', { size: MiB, backing: 'hugetlb' }, 'ERR_OPTION_RANGE', /^size: .*multiple of 2097152/],
      [
        'a huge page of 1 GiB at 2 MiB',
        { regions: [{ guestAddress: 2 * MiB, size: GiB }], backing: 'hugetlb', pageSize: GiB },
        'ERR_GPA_ALIGN',
        /0x200000/,
      ],
      ['advice to huge pages', { size: 2 * MiB, backing: 'hugetlb', thp: true }, 'ERR_OPTION_CONFLICT', /^thp: /],
      ['seals without a file', { size: 4096, backing: 'anonymous', seal: true }, 'ERR_OPTION_CONFLICT', /^seal: /],
      ...['prefault', 'thp', 'seal'].map(
        (flag) => [`a ${flag} of 1`, { size: 4096, [flag]: 1 }, 'ERR_OPTION_TYPE', new RegExp(`^${flag}: `)] as const,
      ),
    ]
    for (const [what, options, code, message] of cases) {
      it(`is refused before anything is mapped: ${what}`, () =>
        recording((record) => {
          const kind = code.startsWith('ERR_GPA') ? GuestMemoryError : InvalidOptionError
          assert.throws(
            () => GuestMemory.allocate(options as never),
            (error: unknown) => error instanceof kind && error.code === code && message.test(error.message),
          )
          assert.deepEqual(record.calls, [])
        }))
    }
  })

  describe('as the kernel is asked for it', () => {
    const format = ({ syscall, args }: RecordedCall): string =>
      [syscall, ...args.filter((arg) => typeof arg !== 'object')].join(' ')
    const callsOf = (options: object): Promise<string[]> =>
      recording((record) => {
        GuestMemory.allocate(options as never).close()
        return record.calls.map(format)
      })

    it('is sealed before it is mapped, unless told not to be', async () => {
      assert.deepEqual(await callsOf({ size: 8192 }), [
        'memfd_create vhost-net-memory 0',
        'ftruncate 8192',
        'F_ADD_SEALS 7',
        'mmap 0 8192 false',
        'close',
        'munmap',
      ])
      assert.ok(!(await callsOf({ size: 4096, seal: false })).some((call) => call.startsWith('F_ADD_SEALS')))
    })

    it('is advised before its pages are taken', async () => {
      const calls = await callsOf({ size: 4096, backing: 'anonymous', thp: false, prefault: true })
      assert.deepEqual(calls, ['mmap 4096', 'madvise 15', 'madvise 23', 'munmap'])
    })

    it('is one mapping for each region, and none where one cannot be had', async () => {
      const regions = [0, 1, 2].map((i) => ({ guestAddress: i * 8192, size: 4096 }))
      const maps = (await callsOf({ regions })).filter((call) => call.startsWith('mmap'))
      assert.equal(maps.length, 3)
      await recording((record) => {
        for (let n = 1; ; n++) {
          record.calls.length = 0
          record.fail(n)
          let memory: NativeMemory | undefined
          try {
            memory = GuestMemory.allocate({ regions, prefault: true })
          } catch (error) {
            assert.ok(error instanceof SystemCallError && error.cause === record.injected)
            const count = (name: string): number => record.calls.filter((call) => call.name === name).length
            const failed = record.injected?.syscall === 'mmap' ? 1 : 0
            assert.equal(count('closeMapping'), count('mmapShared') - failed, `step ${n}`)
            continue
          }
          memory.close()
          assert.equal(n - 1, 3 * 5)
          return
        }
      })
    })
  })

  describe('larger than any view of it', () => {
    it('has windows and copies at every height, of at most 1 GiB', () => {
      using memory = GuestMemory.allocate({ regions: [{ guestAddress: 4 * GiB, size: 6 * GiB }] })
      const end = 10 * GiB
      const window = memory.window(end - GiB, GiB)
      window[GiB - 1] = 42
      const last = new Uint8Array(2)
      memory.read(end - 2, last)
      assert.deepEqual(last, Uint8Array.of(0, 42))
      memory.write(8 * GiB + 1, Uint8Array.of(7))
      assert.equal(memory.window(8 * GiB, 2)[1], 7)
      assert.throws(() => memory.window(4 * GiB, GiB + 1), { name: 'InvalidOptionError', code: 'ERR_OPTION_RANGE' })
    })
  })

  describe('whose regions come and go', () => {
    let memory: NativeMemory

    beforeEach(() => {
      memory = GuestMemory.allocate({ regions: [{ guestAddress: 0, size: 4096 }] })
    })

    afterEach(() => memory.close())

    it('says so once the caller has returned', async () => {
      const heard: (readonly MemoryRegion[])[] = []
      memory.on('regionsChanged', (regions) => heard.push(regions))
      memory.addRegion({ guestAddress: 8192, size: 4096 })
      memory.removeRegion(0)
      assert.deepEqual(heard, [])
      await Promise.resolve()
      assert.deepEqual(heard, [
        [
          { guestAddress: 0, size: 4096 },
          { guestAddress: 8192, size: 4096 },
        ],
        [{ guestAddress: 8192, size: 4096 }],
      ])
    })

    it('detaches the windows of the removed region, and no others', () => {
      memory.addRegion({ guestAddress: 4096, size: 4096 })
      const [kept, lost] = [memory.window(0, 16), memory.window(4096, 16)]
      memory.removeRegion(4096)
      assert.deepEqual([kept.byteLength, lost.byteLength], [16, 0])
      assert.throws(() => memory.window(4096, 1), isOutside)
      assert.deepEqual(memory.regions, [{ guestAddress: 0, size: 4096 }])
    })

    it('begins with zeros again where a region comes back', () => {
      memory.write(0, Uint8Array.of(1))
      memory.removeRegion(0)
      memory.addRegion({ guestAddress: 0, size: 4096 })
      assert.equal(memory.window(0, 1)[0], 0)
    })

    it('refuses what does not fit, and maps nothing', () =>
      recording((record) => {
        const cases: readonly (readonly [region: object, code: string])[] = [
          [{ guestAddress: 0, size: 4096 }, 'ERR_GPA_OVERLAP'],
          [{ guestAddress: 0, size: 8192 }, 'ERR_GPA_OVERLAP'],
          [{ guestAddress: 6000, size: 4096 }, 'ERR_GPA_ALIGN'],
          [{ guestAddress: 8192, size: 0 }, 'ERR_OPTION_RANGE'],
          [{ guestAddress: 2 ** 52, size: 4096 }, 'ERR_OPTION_RANGE'],
          [{ guestAddress: 8192 }, 'ERR_OPTION_TYPE'],
        ]
        for (const [region, code] of cases) assert.throws(() => memory.addRegion(region as MemoryRegion), { code })
        assert.throws(() => memory.removeRegion(8192), isOutside)
        assert.throws(() => memory.removeRegion(1), isOutside)
        assert.deepEqual(record.calls, [])
        assert.deepEqual(memory.regions, [{ guestAddress: 0, size: 4096 }])
      }))

    it('keeps what is pinned until it is released', () => {
      memory.addRegion({ guestAddress: 4096, size: 4096 })
      const releases = [memory.pin(4096, 16, 'a ring'), memory.pin(8000, 192, 'another')]
      assert.throws(() => memory.pin(4000, 200, 'what crosses a border'), isOutside)
      for (const release of releases) {
        assert.throws(() => memory.removeRegion(4096), {
          name: 'GuestMemoryError',
          code: 'ERR_GPA_IN_USE',
          message: /^the region \[0x1000, \+0x1000\) cannot go: (a ring|another) lies in it/,
        })
        release()
      }
      memory.removeRegion(4096)
    })

    it('tells every follower, and goes back to the former table where one cannot follow', async () => {
      const tables: string[] = []
      let broken = false
      const note = (name: string) => () => {
        const table = memory.memTable().map((region) => region.guest_phys_addr)
        if (name === 'b' && broken) throw new Error('b cannot')
        tables.push(`${name} ${table}`)
      }
      let events = 0
      memory.on('regionsChanged', () => events++)
      const leave = ['a', 'b', 'c'].map((name) => memory.follow(note(name)))
      memory.addRegion({ guestAddress: 8192, size: 4096 })
      assert.deepEqual(tables.splice(0), ['a 0,8192', 'b 0,8192', 'c 0,8192'])
      broken = true
      const window = memory.window(8192, 1)
      assert.throws(() => memory.removeRegion(8192), /b cannot/)
      assert.deepEqual(tables.splice(0), ['a 0', 'a 0,8192'])
      assert.throws(() => memory.addRegion({ guestAddress: 4096, size: 4096 }), /b cannot/)
      assert.deepEqual(tables.splice(0), ['a 0,4096,8192', 'a 0,8192'])
      assert.deepEqual(memory.regions, [
        { guestAddress: 0, size: 4096 },
        { guestAddress: 8192, size: 4096 },
      ])
      assert.equal(window.byteLength, 1)
      for (const stop of leave) stop()
      memory.removeRegion(8192)
      assert.deepEqual(tables, [])
      await Promise.resolve()
      assert.equal(events, 2)
    })

    it('cannot change once it is closed', () => {
      memory.close()
      for (const change of [
        () => memory.addRegion({ guestAddress: 8192, size: 4096 }),
        () => memory.removeRegion(0),
        () => memory.pin(0, 1, 'a ring'),
        () => memory.follow(() => undefined),
        () => memory.memTable(),
      ]) {
        assert.throws(change, isClosed)
      }
    })
  })
})
