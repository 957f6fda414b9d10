// What another thread, process or the kernel does by itself a moment later.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'

/** Resolves once `done` says so; fails after 5 s. */
export async function soon(what: string, done: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000
  while (!done()) {
    assert.ok(Date.now() < deadline, `${what}: not within 5 s`)
    await setImmediate()
  }
}
