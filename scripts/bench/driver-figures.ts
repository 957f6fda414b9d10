// Medians, ratios, and the figures that must be reached.

import type { Row } from '../../test/bench/driver/main.ts'
import type { PairCalls } from '../../test/bench/driver/pairs.ts'
import { median } from './statistics.ts'

export interface Figure {
  direction: Row['direction']
  size: number
  path: string
  /** Instructions of the whole machine for each packet: the median of all samples. */
  instructions: number
  /** The farthest sample from the median, as part of it. */
  spread: number
  /** Instructions as a multiple of those of the program in C. */
  ratio: number
  /** The largest part of the time in which the processor slept. */
  idle: number
  /** Instructions for each packet, medians, of the JavaScript thread, and of what feeds it; undefined where nothing does. */
  thread: number | undefined
  source: number | undefined
  /** For 1000 packets, medians; undefined where no ring is measured. */
  kicks: number | undefined
  sleeps: number | undefined
}

/** One figure that must be reached. */
export interface Verdict {
  what: string
  value: number
  /** `value` must be at most, or at least, this. */
  limit: number
  kind: 'at most' | 'at least'
  reached: boolean
  /** Where the instructions go, where it is missed. */
  note?: string
}

function medianOfSome(values: readonly (number | undefined)[]): number | undefined {
  const some = values.filter((value) => value !== undefined)
  return some.length === 0 ? undefined : median(some)
}

export function summarize(rows: readonly Row[]): Figure[] {
  const medianOf = ({ samples }: Row) => median(samples.map(({ instructionsPerPacket }) => instructionsPerPacket))
  return rows.map((row) => {
    const { direction, size, path, samples } = row
    const baseline = rows.find((other) => other.direction === direction && other.size === size && other.path === 'C')
    const instructions = medianOf(row)
    const farthest = Math.max(...samples.map((sample) => Math.abs(sample.instructionsPerPacket - instructions)))
    return {
      direction,
      size,
      path,
      instructions,
      spread: farthest / instructions,
      ratio: instructions / medianOf(baseline as Row),
      idle: Math.max(...samples.map(({ idle }) => idle)),
      thread: medianOfSome(samples.map(({ thread }) => thread)),
      source: medianOfSome(samples.map(({ source }) => source)),
      kicks: medianOfSome(samples.map(({ kicks }) => kicks)),
      sleeps: medianOfSome(samples.map(({ sleeps }) => sleeps)),
    }
  })
}

const MOST: readonly { direction: Row['direction']; path: string; limit: number }[] = [
  { direction: 'tx', path: 'native loop', limit: 1.02 },
  { direction: 'rx', path: 'native loop', limit: 1.05 },
  { direction: 'tx', path: 'JavaScript bursts', limit: 1.1 },
  { direction: 'rx', path: 'JavaScript bursts', limit: 1.1 },
]

/** How many times the instructions of our bursts they take, at the size where the path counts and not the copying. */
const FEWER: readonly { path: string; limit: number }[] = [
  { path: 'fs.writeSync', limit: 2.5 },
  { path: 'fs.write', limit: 14 },
]
const SMALLEST = 64

function verdict(what: string, value: number, kind: Verdict['kind'], limit: number): Verdict {
  return { what, value, limit, kind, reached: kind === 'at most' ? value <= limit : value >= limit }
}

function callsOfPair({ pairs, open, start, stop, close }: PairCalls): number {
  return (open + start + stop + close) / pairs
}

function whereTheyGo({ instructions, thread = 0, source = 0 }: Figure): string {
  const [all, ours, feeding] = [instructions, thread, source].map((value) => Math.round(value).toLocaleString('en-US'))
  const fed = source === 0 ? '' : `, and what feeds it, which spins while there is no room, ${feeding}`
  return `of ${all} instructions the JavaScript thread takes ${ours}${fed}`
}

export function judge(figures: readonly Figure[], pairs: readonly PairCalls[]): Verdict[] {
  const ofPath = (direction: Row['direction'], path: string) =>
    figures.filter((figure) => figure.direction === direction && figure.path === path)
  const smallest = (path: string) => ofPath('tx', path).find(({ size }) => size === SMALLEST)
  const [one, most] = [pairs[0], pairs.at(-1)] as [PairCalls, PairCalls]
  return [
    ...MOST.flatMap(({ direction, path, limit }) =>
      ofPath(direction, path).map((figure) => {
        const judged = verdict(`${direction} ${figure.size}: ${path} / C`, figure.ratio, 'at most', limit)
        return judged.reached ? judged : { ...judged, note: whereTheyGo(figure) }
      }),
    ),
    ...FEWER.flatMap(({ path, limit }) => {
      const [c, bursts, other] = ['C', 'JavaScript bursts', path].map(smallest)
      if (c === undefined || bursts === undefined || other === undefined) return []
      const value = other.instructions / bursts.instructions
      const judged = verdict(`tx ${SMALLEST}: ${path} / JavaScript bursts`, value, 'at least', limit)
      const best = (other.instructions / c.instructions).toFixed(2)
      const note = `the program in C itself reaches ${best}: nearly all of a burst's instructions are the kernel's`
      return [judged.reached ? judged : { ...judged, note }]
    }),
    verdict(
      `system calls of a pair among ${most.pairs} / of one alone`,
      callsOfPair(most) / callsOfPair(one),
      'at most',
      1,
    ),
  ]
}
