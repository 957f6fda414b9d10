// What the guest and the host's kernel have counted, at one moment in which nothing moves.

import { TAP_COUNTERS, type TapCounters } from '../../lib/cli/loop/report.ts'
import type { LinkStats } from '../../lib/host/index.ts'
import type { CounterReader, NicCounters } from '../guest/queue-counters.ts'

/** How long it may take until nothing moves. */
const REST_MS = 30_000

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

export interface AtRest {
  guest: NicCounters
  tap: TapCounters
}

/** Since it was made. */
const tapCounters = (stats: LinkStats): TapCounters =>
  Object.fromEntries(TAP_COUNTERS.map((name) => [name, stats[name]])) as TapCounters

/**
 * Reads the guest's counters, the tap's, and both again: what was the same both times was so in between. Guest and host
 * say something to each other now and then; what comes in between is waited out.
 * @param tap reads the tap's
 * @throws {Error} where it does not come to rest
 */
export async function atRest(guest: CounterReader, tap: () => LinkStats): Promise<AtRest> {
  const until = performance.now() + REST_MS
  let last = { guest: await guest.read(), tap: tapCounters(tap()) }
  for (;;) {
    const next = { guest: await guest.read(), tap: tapCounters(tap()) }
    if (isSame(last, next)) return next
    if (performance.now() > until)
      throw new Error(`packets still move, ${REST_MS / 1000} s after the last of the traffic`)
    last = next
  }
}
