// Both sides of a measurement beside each other: where they differ, by what reason, and what is not in order.

import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { featureBits, featureNames, hasFeature } from '../../lib/virtio/index.ts'
import type { Measurement, NicFeatures, OurFeatures } from './measure.ts'
import { type NicOptions, OPTION_SETS, type OptionSet } from './option-sets.ts'
import { REASONS, type Reason } from './reasons.ts'

const NUMBERS: Readonly<Record<string, number>> = { ...VIRTIO_F, ...VIRTIO_NET_F }
/** In the guest's sysfs, and in what it reads of the registers. */
const GUEST_BITS = 64

export interface Sides {
  readonly ours: boolean
  readonly qemu: boolean
}

/** A feature bit that one of them offers or the guest accepted. */
export interface Row {
  readonly bit: number
  readonly name: string
  readonly offered: Sides
  readonly accepted: Sides
  readonly alike: boolean
  /** Why not; null where they are alike, or for no known reason. */
  readonly why: string | null
}

export interface ComparedSet {
  readonly name: string
  readonly options: NicOptions
  /** Whether the guest's driver took the device. */
  readonly driven: Sides
  readonly rows: readonly Row[]
}

/** JSON-safe. */
export interface Comparison extends Pick<Measurement, 'host' | 'guest' | 'qemu'> {
  readonly sets: readonly ComparedSet[]
  /** Where a guest and its device do not agree: sentences, as all that follow. */
  readonly disagreements: readonly string[]
  readonly unexplained: readonly string[]
  /** Reasons of differences that are not there. */
  readonly stale: readonly string[]
}

export function compare(
  measurement: Measurement,
  optionSets: readonly OptionSet[] = OPTION_SETS,
  reasons: readonly Reason[] = REASONS,
): Comparison {
  const { host, guest, qemu, ours, theirs } = measurement
  const expected = reasons.filter((reason) => reason.expected?.(measurement) ?? true)
  const sets = optionSets.map(({ name, options }, i): ComparedSet => {
    const [our, their] = [ours[i], theirs[i]]
    if (our === undefined || their === undefined) throw new Error(`nothing was measured with ${name}`)
    return { name, options, driven: { ours: our.driven, qemu: their.driven }, rows: rowsOf(our, their, expected) }
  })
  const seen = new Set(sets.flatMap(({ rows }) => rows.map(({ name, why }) => `${name}: ${why}`)))
  return {
    host,
    guest,
    qemu,
    sets,
    disagreements: optionSets.flatMap(({ name }, i) => disagreementsOf(name, ours[i]!, theirs[i]!)),
    unexplained: sets.flatMap(({ name, rows }) =>
      rows
        .filter(({ alike, why }) => !alike && why === null)
        .map((row) => `${name}: ${row.name} differs for no reason`),
    ),
    stale: expected
      .flatMap(({ features, why }) => features.map((name) => `${name}: ${why}`))
      .filter((reason) => !seen.has(reason))
      .map((reason) => `this difference is not there: ${reason}`),
  }
}

function rowsOf(our: OurFeatures, their: NicFeatures, reasons: readonly Reason[]): Row[] {
  // Only the device itself knows of bits that a guest of 64 bits does not.
  const offered = { ours: BigInt(our.device.offered), qemu: BigInt(their.offered) }
  const accepted = { ours: BigInt(our.device.accepted), qemu: BigInt(their.accepted) }
  const sides = (sets: { ours: bigint; qemu: bigint }, bit: number): Sides => ({
    ours: hasFeature(sets.ours, bit),
    qemu: hasFeature(sets.qemu, bit),
  })
  return featureBits(offered.ours | offered.qemu | accepted.ours | accepted.qemu).map((bit) => {
    const name = featureNames(1n << BigInt(bit), VIRTIO_NET_F)[0]!
    const row = { bit, name, offered: sides(offered, bit), accepted: sides(accepted, bit) }
    const alike = row.offered.ours === row.offered.qemu && row.accepted.ours === row.accepted.qemu
    return { ...row, alike, why: alike ? null : whyOf(row, offered.ours | offered.qemu, reasons) }
  })
}

/** @param offered by either of them. */
function whyOf(
  { name, offered: { ours, qemu } }: Pick<Row, 'name' | 'offered'>,
  offered: bigint,
  reasons: readonly Reason[],
): string | null {
  // Where the offers are equal, no reason is known why the guest should not accept them alike.
  if (ours === qemu) return null
  const found = reasons.find(({ features, only, without }) => {
    const lacks = without === undefined || !hasFeature(offered, NUMBERS[without]!)
    return lacks && only === (ours ? 'ours' : 'qemu') && (features as readonly string[]).includes(name)
  })
  return found?.why ?? null
}

function disagreementsOf(name: string, our: OurFeatures, their: NicFeatures): string[] {
  const list = (set: bigint): string => featureNames(set, VIRTIO_NET_F).join(', ')
  const differ = (what: string, guests: string, device: string): string[] => {
    const difference = BigInt(guests) ^ BigInt.asUintN(GUEST_BITS, BigInt(device))
    return difference === 0n ? [] : [`${name}: our device and its guest disagree on ${what}: ${list(difference)}`]
  }
  const beyond = (who: string, { offered, accepted }: NicFeatures): string[] => {
    const more = BigInt(accepted) & ~BigInt(offered)
    return more === 0n ? [] : [`${name}: the guest accepted what ${who} does not offer: ${list(more)}`]
  }
  return [
    ...(our.driven ? [] : [`${name}: the guest's driver refuses our device`]),
    ...differ('the offer', our.offered, our.device.offered),
    ...differ('what was accepted', our.accepted, our.device.accepted),
    ...beyond('our device', our),
    ...beyond("QEMU's", their),
  ]
}
