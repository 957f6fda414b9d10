// What a packet costs on one side and on the other, at the same pace. Clocks of host and guest tick by time: the slower
// packets go, the more of their exits each packet has, and how fast they go depends on what else this computer does.

import type { Interval } from '../statistics.ts'

export interface Ratio extends Interval {
  value: number
}

/** Of one round. */
export interface Sample {
  /** Counted for each packet. */
  count: number
  /** Seconds for each packet. */
  pace: number
}

export interface Pair {
  ours: Sample
  theirs: Sample
}

const CONFIDENCE = 0.95
const RESAMPLES = 2000

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

interface Side {
  count: number
  pace: number
  /** Sums over all samples of what is off the mean: of both multiplied, and of the pace squared. */
  together: number
  spread: number
}

function side(samples: readonly Sample[]): Side {
  const [count, pace] = [mean(samples.map((each) => each.count)), mean(samples.map((each) => each.pace))]
  const off = samples.map((each) => ({ count: each.count - count, pace: each.pace - pace }))
  return {
    count,
    pace,
    together: off.reduce((sum, each) => sum + each.count * each.pace, 0),
    spread: off.reduce((sum, each) => sum + each.pace ** 2, 0),
  }
}

/**
 * Analysis of covariance: both sides' counts grow with the pace by one slope, by least squares, and are compared where the
 * pace is the mean of all.
 */
function ratioOf(pairs: readonly Pair[]): number {
  const [ours, theirs] = [side(pairs.map((pair) => pair.ours)), side(pairs.map((pair) => pair.theirs))]
  const spread = ours.spread + theirs.spread
  // A clock adds exits; that fewer come of a slower pace is chance, or suppression, and no clock's doing.
  const slope = spread === 0 ? 0 : Math.max(0, (ours.together + theirs.together) / spread)
  const pace = (ours.pace + theirs.pace) / 2
  const [our, their] = [ours, theirs].map((each) => each.count + slope * (pace - each.pace)) as [number, number]
  return our === their ? 1 : our / their
}

/** The same numbers each time, so that a result can be shown again (Marsaglia's xorshift). */
function* randoms(): Generator<number> {
  let state = 2463534242
  for (;;) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    yield (state >>> 0) / 2 ** 32
  }
}

/** The interval is of resampled rounds (bootstrap, percentiles). */
export function atSamePace(pairs: readonly Pair[]): Ratio {
  const random = randoms()
  const draw = (): Pair => pairs[Math.floor((random.next().value as number) * pairs.length)] as Pair
  const drawn = Array.from({ length: RESAMPLES }, () => ratioOf(pairs.map(draw))).sort((a, b) => a - b)
  const tail = (1 - CONFIDENCE) / 2
  const at = (part: number): number => drawn[Math.round(part * (RESAMPLES - 1))] as number
  return { value: ratioOf(pairs), low: at(tail), high: at(1 - tail), confidence: CONFIDENCE }
}
