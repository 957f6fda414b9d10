// When a driver must kick, and when it must not: what a device wishes and what then is right.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { DriverQueue } from '../../lib/driver/index.ts'
import { passesEvent } from './ring-device.ts'

/** Expects exactly these kicks for these publications, each from one available index, in total, to another. */
export class KickModel {
  readonly #queue: DriverQueue
  readonly #eventIdx: boolean
  #kicks: number

  constructor(queue: DriverQueue, eventIdx: boolean) {
    this.#queue = queue
    this.#eventIdx = eventIdx
    this.#kicks = queue.counters().kicks
  }

  check(wish: { event: number; noNotify: boolean }, ...published: readonly (readonly [bigint, bigint])[]): void {
    const wanted = published.filter(
      ([before, now]) => now > before && (this.#eventIdx ? passesEvent(wish.event, before, now) : !wish.noNotify),
    ).length
    const { kicks } = this.#queue.counters()
    assert.equal(kicks - this.#kicks, wanted, `kicks, for ${JSON.stringify(wish)} and ${published}`)
    assert.equal(Number(this.#queue.kick.read()), wanted, 'what the eventfd counted')
    this.#kicks = kicks
  }
}

/** Rings to go through: small ones, full size, and ones that are about to wrap. */
export const shapes = fc.constantFrom(
  { num: 2, start: 0 },
  { num: 4, start: 3 },
  { num: 8, start: 0 },
  { num: 64, start: 0 },
  { num: 64, start: 65_500 },
  { num: 128, start: 65_536 - 5 },
)

/** Where the device wants to be notified, relative to the driver's available index now: mostly close to it. */
export const wishes = fc.record({
  event: fc.oneof(fc.integer({ min: -70, max: 70 }), fc.integer({ min: 0, max: 65_535 })),
  noNotify: fc.boolean(),
})
