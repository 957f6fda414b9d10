// What must be true of a device whatever its guest does, and how long it may take.

import { setImmediate, setTimeout } from 'node:timers/promises'
import type { FuzzNic } from './fuzz-nic.ts'

/** Of a worker, until what was kicked is used or the device needs a reset. */
const MOST_CPU_MS = 1000
/** Of the clock, for a worker that sleeps: in a lab it runs much faster than anything else. */
const MOST_MS = 20_000
/** Turns of the event loop before time is waited for. */
const TURNS = 8

/** Something that must be is not. */
export class Failure extends Error {
  override readonly name = 'Failure'
}

export function must(condition: boolean, what: () => string): asserts condition {
  if (!condition) throw new Failure(what())
}

/** Resolves once `done`; fails where a worker had its time. @param what for the message, where it does not come */
export async function until(device: FuzzNic, what: () => string, done: () => boolean): Promise<void> {
  let begin: { clock: number; cpuMs: number[] } | undefined
  for (let turn = 0; !done(); turn++) {
    if (turn < TURNS) {
      await setImmediate()
      continue
    }
    begin ??= { clock: performance.now(), cpuMs: device.cpuMs() }
    await setTimeout(1)
    if (turn % 32 !== 0) continue
    const ran = Math.max(...device.cpuMs().map((ms, pair) => ms - begin!.cpuMs[pair]!))
    must(ran < MOST_CPU_MS || done(), () => `${what()}: not while its worker ran for ${ran.toFixed()} ms`)
    const passed = performance.now() - begin.clock
    must(passed < MOST_MS || done(), () => `${what()}: not within ${(passed / 1000).toFixed()} s`)
  }
}
