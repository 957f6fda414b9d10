// Feature sets: bigint masks of bits 0..127 (virtio 1.x section 2.2), read and written in words of 32 bits.

import { VIRTIO_F } from '../abi/virtio.ts'

/** Words of a feature set. */
export const FEATURE_WORDS = 4

/** A feature that must not be without others. */
export interface FeatureRule {
  /** Bit number. */
  readonly feature: number
  /** Bit numbers; of each list at least one. */
  readonly needs: readonly (readonly number[])[]
}

/** The set of these bit numbers. */
export function featureSet(...bits: readonly number[]): bigint {
  return bits.reduce((set, bit) => set | (1n << BigInt(bit)), 0n)
}

export function hasFeature(set: bigint, bit: number): boolean {
  return ((set >> BigInt(bit)) & 1n) === 1n
}

/** The bit numbers of a set, ascending. */
export function featureBits(set: bigint): number[] {
  const bits: number[] = []
  for (let bit = 0, rest = set; rest !== 0n; bit++, rest >>= 1n) if (rest & 1n) bits.push(bit)
  return bits
}

/** Bits `32 * select`.. of a set; 0 beyond the last word. */
export function featureWord(set: bigint, select: number): number {
  return select < FEATURE_WORDS ? Number((set >> BigInt(32 * select)) & 0xffff_ffffn) : 0
}

/** The set with that word replaced; the same set beyond the last word. */
export function withFeatureWord(set: bigint, select: number, word: number): bigint {
  if (select >= FEATURE_WORDS) return set
  const shift = BigInt(32 * select)
  return (set & ~(0xffff_ffffn << shift)) | (BigInt(word >>> 0) << shift)
}

/** Those of the rules' features that are in the set without what they need. */
export function unmetFeatures(set: bigint, rules: readonly FeatureRule[]): bigint {
  const unmet = rules.filter(({ feature, needs }) => {
    return hasFeature(set, feature) && !needs.every((any) => any.some((bit) => hasFeature(set, bit)))
  })
  return featureSet(...unmet.map(({ feature }) => feature))
}

/** The largest subset in which every feature has what it needs. */
export function consistentFeatures(set: bigint, rules: readonly FeatureRule[]): bigint {
  const unmet = unmetFeatures(set, rules)
  return unmet === 0n ? set : consistentFeatures(set & ~unmet, rules)
}

/**
 * `['VIRTIO_F_VERSION_1', 'bit 99']`, by ascending bit.
 * @param names of the bits that are the device type's own: `VIRTIO_NET_F`. Those of every device are known here.
 */
export function featureNames(set: bigint, names: Readonly<Record<string, number>> = {}): string[] {
  const known = new Map([...Object.entries(names), ...Object.entries(VIRTIO_F)].map(([name, bit]) => [bit, name]))
  return featureBits(set).map((bit) => known.get(bit) ?? `bit ${bit}`)
}
