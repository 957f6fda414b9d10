// The processors of a machine as CPUID shows them: cores of one socket, whatever the host's own topology is.

import assert from 'node:assert/strict'
import { cpuidOf } from '../../lib/vmm/cpuid.ts'

type Words = readonly [leaf: number, index: number, eax: number, ebx: number, ecx: number, edx: number]

const encode = (entries: readonly Words[]): Uint8Array =>
  Uint8Array.from(
    Buffer.from(
      Uint32Array.from(
        entries.flatMap(([leaf, index, ...words]) => [leaf, index, index > 0 ? 1 : 0, ...words, 0, 0, 0]),
      ).buffer,
    ),
  )

const decode = (entries: Uint8Array): Map<string, Record<'flags' | 'eax' | 'ebx' | 'ecx' | 'edx', number>> => {
  const words = new Uint32Array(entries.buffer, entries.byteOffset, entries.length / 4)
  return new Map(
    Array.from({ length: words.length / 10 }, (_, i) => {
      const [leaf = 0, index = 0, flags = 0, eax = 0, ebx = 0, ecx = 0, edx = 0] = words.slice(10 * i)
      return [`${leaf.toString(16)}.${index}`, { flags, eax, ebx, ecx, edx }]
    }),
  )
}

const HTT = 2 ** 28
/** Sixteen threads on eight cores, as a host may have them; a cache of each level. */
const intel: readonly Words[] = [
  [0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69],
  [1, 0, 0x806f8, 0x0c10_0800, 0x0400_0000, HTT | 1],
  [4, 0, 0xfc00_4121, 0x02c0_003f, 0x3f, 0],
  [4, 2, 0xfc00_4143, 0x03c0_003f, 0x7ff, 0],
  [4, 3, 0xfc1f_c163, 0x02c0_003f, 0x1ffff, 4],
  [4, 4, 0, 0, 0, 0],
  [0xb, 0, 1, 2, 0x100, 12],
  [0x1f, 0, 1, 2, 0x100, 12],
  [0x8000_0008, 0, 0x3934, 0, 0, 0],
]
const amd: readonly Words[] = [
  [0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65],
  [1, 0, 0xa00f11, 0x0c10_0800, 0, HTT],
  [0xb, 0, 0, 0, 0, 0],
  [0x8000_0001, 0, 0, 0, 0x40_0003, 0],
  [0x8000_0008, 0, 0x3030, 0, 0x700f, 0],
  [0x8000_001d, 0, 0x4121, 0, 0, 0],
  [0x8000_001d, 3, 0x3c163, 0, 0, 0],
  [0x8000_001e, 0, 12, 0x106, 0, 0],
]

const show = (supported: readonly Words[], apicId: number, cpus: number) =>
  decode(cpuidOf(encode(supported), { apicId, cpus }))

describe('CPUID of a machine', () => {
  for (const cpus of [1, 2, 3, 4, 16, 33, 64]) {
    const bits = Math.ceil(Math.log2(cpus))
    const ids = 2 ** bits

    it(`with ${cpus} processors says the same in every leaf, on each`, () => {
      for (const apicId of [0, cpus >> 1, cpus - 1]) {
        const leaves = show(intel, apicId, cpus)
        const first = leaves.get('1.0')!
        assert.equal(first.ebx >>> 24, apicId)
        assert.equal((first.ebx >>> 16) & 0xff, ids)
        assert.equal(first.ebx & 0xffff, 0x0800)
        assert.equal(first.edx, cpus > 1 ? HTT + 1 : 1)
        for (const [cache, shared] of [
          ['4.0', 1],
          ['4.2', 1],
          ['4.3', ids],
        ] as const) {
          const { eax } = leaves.get(cache)!
          assert.equal(eax >>> 26, ids - 1, 'ids of cores')
          assert.equal((eax >>> 14) & 0xfff, shared - 1, cache)
        }
        assert.equal(leaves.get('4.4')!.eax, 0)
        for (const leaf of ['b', '1f']) {
          assert.deepEqual(leaves.get(`${leaf}.0`), { flags: 1, eax: 0, ebx: 1, ecx: 0x100, edx: apicId })
          assert.deepEqual(leaves.get(`${leaf}.1`), { flags: 1, eax: bits, ebx: cpus, ecx: 0x201, edx: apicId })
          assert.deepEqual(leaves.get(`${leaf}.2`), { flags: 1, eax: 0, ebx: 0, ecx: 2, edx: apicId })
        }
        assert.deepEqual(leaves.get('80000008.0'), { flags: 0, eax: 0x3934, ebx: 0, ecx: 0, edx: 0 })
      }
    })

    it(`with ${cpus} processors of AMD says so in AMD's leaves too`, () => {
      const leaves = show(amd, cpus - 1, cpus)
      assert.equal(leaves.get('80000001.0')!.ecx, cpus > 1 ? 0x40_0003 : 0x40_0001)
      assert.equal(leaves.get('80000008.0')!.ecx, (bits << 12) | (cpus - 1))
      assert.equal((leaves.get('8000001d.0')!.eax >>> 14) & 0xfff, 0)
      assert.equal((leaves.get('8000001d.3')!.eax >>> 14) & 0xfff, cpus - 1)
      assert.deepEqual(leaves.get('8000001e.0'), { flags: 0, eax: cpus - 1, ebx: cpus - 1, ecx: 0, edx: 0 })
      assert.equal(leaves.get('b.1')!.ebx, cpus)
      assert.equal(leaves.has('1f.0'), false)
    })
  }

  it('has a hypervisor, and a timer by the time stamp counter, and else what the host has', () => {
    const { ecx, eax } = show(intel, 0, 1).get('1.0')!
    assert.equal(ecx, 0x8500_0000)
    assert.equal(eax, 0x806f8)
  })

  it('has no leaf that the host has not', () => {
    assert.deepEqual([...show([[0, 0, 4, 0x756e6547, 0, 0]], 0, 4).keys()], ['0.0'])
    assert.equal(cpuidOf(new Uint8Array(), { apicId: 0, cpus: 4 }).length, 0)
  })

  it('leaves what it was given as it is', () => {
    const supported = encode(intel)
    const before = supported.slice()
    cpuidOf(supported, { apicId: 3, cpus: 4 })
    assert.deepEqual(supported, before)
  })
})
