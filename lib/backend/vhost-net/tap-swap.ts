// All pairs of a backend go on with another tap, or none does.

import { Teardown } from '../../teardown.ts'
import type { RingName, RxFilter } from '../net-backend.ts'
import type { BackendTap } from './backend-tap.ts'
import { tapOffload } from './features.ts'
import type { QueuePair } from './queue-pair.ts'
import type { TapLink } from './tap-link.ts'

export interface TapSwap {
  pairs: readonly QueuePair[]
  links: Iterable<TapLink>
  /** Undefined where none was set. */
  rxFilter: RxFilter | undefined
  next: BackendTap
}

/** A ring that can go neither on with another tap nor back to the one it had. */
export interface StrandedRing {
  pair: number
  ring: RingName
}

/**
 * Sets the other tap up, and moves each pair to it. Returns what the watches on the tap before have to be told.
 * @param stranded told of rings that stand still, once all that can go back have gone.
 * @throws what the kernel refused, with all others back
 */
export function swapTaps(
  { pairs, links, rxFilter, next }: TapSwap,
  stranded: (rings: readonly StrandedRing[]) => void,
): (() => void)[] {
  const undo = new Teardown()
  const standing: StrandedRing[] = []
  try {
    for (const { vhost } of pairs) vhost.checkTap(next)
    const followed = [...links].map((link) => link.follow(next.first, undo))
    if (rxFilter !== undefined) next.filter.set(rxFilter)
    // What the driver takes now, or took last: frames may wait there before a pair starts.
    const known = pairs.find(({ running }) => running) ?? pairs[0]
    if (known !== undefined) next.first.setOffload(tapOffload(known.offloads))
    for (const [i, queue] of next.queues.entries()) {
      pairs[i]?.swap(queue, undo, (ring) => standing.push({ pair: i, ring }))
    }
    return followed
  } catch (error) {
    const thrown = undo.unwind(error)
    if (standing.length > 0) stranded(standing)
    throw thrown
  }
}
