// What tests make is closed behind them, the newest first, and then nothing of it is left.

import assert from 'node:assert/strict'
import { diffSoon, type Resources, resources } from './resources.ts'

/** A machine's threads and kernel threads, and the memory behind them, are there for another moment. */
const SOON_MS = 5000

/** What is closed behind the tests. */
export interface Closing {
  /** Closes it then. @returns it */
  own<T extends { close(): unknown }>(thing: T): T
  /** Does that then; where it resolves later, that is awaited. */
  add(step: () => unknown): void
}

/** For the suite that it is called in: after each of its tests, or after all of them. */
export function leavesNothing(when: 'each' | 'all' = 'each'): Closing {
  const steps: (() => unknown)[] = []
  let held: Resources = new Map()

  const begin = (): void => {
    held = resources()
  }
  const end = async (): Promise<void> => {
    const errors: unknown[] = []
    for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
      try {
        await step()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `not closed: ${errors.map(String).join('; ')}`)
    assert.deepEqual(await diffSoon(held, SOON_MS), [])
  }
  if (when === 'each') {
    beforeEach(begin)
    afterEach('nothing is left', end)
  } else {
    before(begin)
    after('nothing is left', end)
  }
  return {
    own(thing) {
      steps.push(() => thing.close())
      return thing
    },
    add(step) {
      steps.push(step)
    },
  }
}
