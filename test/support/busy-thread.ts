// This thread in place of a worker that the kernel keeps busy: what it burns is counted as that worker's time.

import { setImmediate } from 'node:timers/promises'
import { VhostWorker } from '../../lib/host/index.ts'

/** A turn of the event loop comes after so long. Milliseconds. */
const SLICE_MS = 2

/** The main thread, whose number is the process's. */
export const thisThread = new VhostWorker(process.pid)

const cpuMs = (): number => thisThread.cpuTime() / 1e6

/**
 * Keeps this thread busy until `done`, or until it ran for `most` milliseconds of its own time.
 * @param each what it does now and then meanwhile
 * @returns for how long it ran
 */
export async function burn(most: number, done: () => boolean, each: () => void = () => undefined): Promise<number> {
  const begin = cpuMs()
  while (!done() && cpuMs() - begin < most) {
    each()
    const slice = cpuMs()
    while (cpuMs() - slice < SLICE_MS);
    await setImmediate()
  }
  return cpuMs() - begin
}
