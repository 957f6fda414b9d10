// What is said of several samples of one thing.

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle) - 1] as number)) / 2
}

export interface Interval {
  low: number
  high: number
  /** How probable it is that the median of all samples there could be lies in it. */
  confidence: number
}

const ENOUGH = 0.95

/**
 * Of the median, by order statistics: between two samples, whatever the samples' distribution is. Each sample lies below
 * the median with probability 1/2, so that how many do is binomial. Of fewer than 6 samples even the least and the
 * greatest do not reach 95 %: then it is those, and `confidence` says how much they reach.
 */
export function medianInterval(values: readonly number[]): Interval {
  const sorted = values.toSorted((a, b) => a - b)
  const { length } = sorted
  /** That fewer than `rank` samples lie below the median. */
  const tail = (rank: number): number => {
    let ways = 1
    let sum = 0
    for (let below = 0; below < rank; below++) {
      sum += ways
      ways = (ways * (length - below)) / (below + 1)
    }
    return sum / 2 ** length
  }
  let rank = 1
  while (rank < length / 2 && 1 - 2 * tail(rank + 1) >= ENOUGH) rank++
  return { low: sorted[rank - 1]!, high: sorted[length - rank]!, confidence: 1 - 2 * tail(rank) }
}
