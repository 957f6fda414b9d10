// Waits for a device that says of itself when it is done.

import { setImmediate } from 'node:timers/promises'

/** What a reset takes at most, before something is wrong. */
const PATIENCE_MS = 5000

/** Looks until it is so, and lets other work of this thread go between. Rejects with the signal's reason; default 5 s. */
export async function until(done: () => boolean, signal = AbortSignal.timeout(PATIENCE_MS)): Promise<void> {
  while (!done()) {
    signal.throwIfAborted()
    await setImmediate()
  }
}
