// What another thread, process or the kernel does by itself a moment later.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'

/** Resolves once `done` says so; fails after so many seconds. */
export async function soon(what: string, done: () => boolean, seconds = 20): Promise<void> {
  const deadline = Date.now() + 1000 * seconds
  while (!done()) {
    assert.ok(Date.now() < deadline, `${what}: not within ${seconds} s`)
    await setImmediate()
  }
}
