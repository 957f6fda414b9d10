// What is left in memory after opening, starting and closing a queue pair many times. Needs --expose-gc.

import { readdirSync, readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import type { Nic } from './nic.ts'
import { openNic } from './nic.ts'

/** A small one: its memory is not what is looked for. */
const RING_ENTRIES = 16

export interface Footprint {
  cycles: number
  /** Bytes: resident; and of JavaScript's heap. */
  resident: number
  heap: number
  fds: number
  threads: number
  mappings: number
}

const collect = globalThis.gc as () => void

async function footprint(cycles: number): Promise<Footprint> {
  for (let round = 0; round < 3; round++) {
    collect()
    await setImmediate()
  }
  const { rss, heapUsed } = process.memoryUsage()
  return {
    cycles,
    resident: rss,
    heap: heapUsed,
    fds: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
    mappings: readFileSync('/proc/self/maps', 'utf8').split('\n').length,
  }
}

/** Footprints after a tenth of the cycles, when everything has warmed up, and after each further tenth. */
export async function cycle(cycles: number, progress: (done: number) => void): Promise<Footprint[]> {
  const footprints: Footprint[] = []
  for (let done = 1; done <= cycles; done++) {
    const nic: Nic = await openNic(2048, RING_ENTRIES)
    await nic.close()
    if (done % Math.ceil(cycles / 10) !== 0) continue
    footprints.push(await footprint(done))
    progress(done)
  }
  return footprints
}
