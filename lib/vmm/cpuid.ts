// What CPUID shows on one of a guest's processors: cores of one socket, a thread each (Intel SDM volume 2, CPUID; AMD64
// Architecture Programmer's Manual volume 3, appendix E).

import { KVM_CPUID_ENTRY2 as ENTRY, KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from '../abi/kvm.ts'

const HYPERVISOR = 2 ** 31
const TSC_DEADLINE = 2 ** 24
/** In EDX of leaf 1: EBX there says how many. */
const HTT = 2 ** 28
/** In ECX of leaf 0x80000001: what HTT tells of are cores. */
const CMP_LEGACY = 2
/** The vendor's first four letters, in EBX of leaf 0: `Auth`enticAMD, `Hygo`nGenuine. */
const AMD = [0x6874_7541, 0x6f67_7948]
/** Types of levels in leaves 0xb and 0x1f. */
const LEVEL = { smt: 1, core: 2 } as const
const FIRST_SHARED_CACHE = 3

export interface Processor {
  /** From 0 on. */
  apicId: number
  /** How many the machine has. */
  cpus: number
}

type Register = 'eax' | 'ebx' | 'ecx' | 'edx'

class Leaf {
  readonly bytes: Uint8Array
  readonly #view: DataView

  constructor(bytes: Uint8Array = new Uint8Array(ENTRY.size)) {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get(word: keyof typeof ENTRY): number {
    return this.#view.getUint32(ENTRY[word], true)
  }

  set(words: Partial<Record<Register | 'function' | 'index' | 'flags', number>>): this {
    for (const [word, value] of Object.entries(words)) {
      this.#view.setUint32(ENTRY[word as Register], value >>> 0, true)
    }
    return this
  }

  setBits(register: Register, at: number, width: number, value: number): void {
    const mask = (2 ** width - 1) * 2 ** at
    this.set({ [register]: (this.get(register) & ~mask) | (value << at) })
  }
}

/**
 * What the host can show, with the topology of the machine in place of the host's.
 * @param supported what KVM_GET_SUPPORTED_CPUID answers: struct kvm_cpuid_entry2, one after the other
 */
export function cpuidOf(supported: Uint8Array, processor: Processor): Uint8Array {
  const all = supported.slice()
  const leaves = Array.from(
    { length: all.length / ENTRY.size },
    (_, i) => new Leaf(all.subarray(ENTRY.size * i, ENTRY.size * (i + 1))),
  )
  const amd = leaves.some((leaf) => leaf.get('function') === 0 && AMD.includes(leaf.get('ebx')))
  const kept = leaves.filter((leaf) => !isTopology(leaf))
  for (const leaf of kept) adapt(leaf, processor, amd)
  // KVM shows one level of these at most.
  const topology = new Set(leaves.filter(isTopology).map((leaf) => leaf.get('function')))
  const levels = [...topology].flatMap((leaf) => levelsOf(leaf, processor))
  return Uint8Array.from(Buffer.concat([...kept, ...levels].map(({ bytes }) => bytes)))
}

function isTopology(leaf: Leaf): boolean {
  return [0xb, 0x1f].includes(leaf.get('function'))
}

/** Bits of an APIC id that tell the processors of a socket apart. */
const idBits = (cpus: number): number => Math.ceil(Math.log2(cpus))

function levelsOf(leaf: number, { apicId, cpus }: Processor): Leaf[] {
  const level = (index: number, words: { type: number; shift: number; count: number }) =>
    new Leaf().set({
      function: leaf,
      index,
      flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
      eax: words.shift,
      ebx: words.count,
      ecx: (words.type << 8) | index,
      edx: apicId,
    })
  return [
    level(0, { type: LEVEL.smt, shift: 0, count: 1 }),
    level(1, { type: LEVEL.core, shift: idBits(cpus), count: cpus }),
    level(2, { type: 0, shift: 0, count: 0 }),
  ]
}

function adapt(leaf: Leaf, { apicId, cpus }: Processor, amd: boolean): void {
  const ids = 2 ** idBits(cpus)
  switch (leaf.get('function')) {
    case 0x1:
      leaf.setBits('ebx', 16, 8, ids)
      leaf.setBits('ebx', 24, 8, apicId)
      leaf.set({ ecx: leaf.get('ecx') | HYPERVISOR | TSC_DEADLINE })
      leaf.set({ edx: cpus > 1 ? leaf.get('edx') | HTT : leaf.get('edx') & ~HTT })
      break
    // Caches: those nearest to a core are its own, the others all cores'.
    case 0x4:
      if (cacheType(leaf) === 0) break
      leaf.setBits('eax', 14, 12, sharing(leaf, ids))
      leaf.setBits('eax', 26, 6, ids - 1)
      break
    case 0x8000_001d:
      if (cacheType(leaf) !== 0) leaf.setBits('eax', 14, 12, sharing(leaf, cpus))
      break
    case 0x8000_0001:
      if (amd) leaf.setBits('ecx', 0, 2, (leaf.get('ecx') & 1) | (cpus > 1 ? CMP_LEGACY : 0))
      break
    case 0x8000_0008:
      if (amd) leaf.set({ ecx: (idBits(cpus) << 12) | (cpus - 1) })
      break
    case 0x8000_001e:
      // One thread in a core, one node in the socket.
      leaf.set({ eax: apicId, ebx: apicId, ecx: 0, edx: 0 })
      break
  }
}

const cacheType = (leaf: Leaf): number => leaf.get('eax') & 0x1f

function sharing(leaf: Leaf, all: number): number {
  const level = (leaf.get('eax') >> 5) & 7
  return level >= FIRST_SHARED_CACHE ? all - 1 : 0
}
