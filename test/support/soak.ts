// A soak: traffic that at every checkpoint comes to rest, and then all sums must be exact, and nothing held that was not
// held before.

import { diff, type Resources, resources } from './resources.ts'
import { type Checkpoint, differences, since } from './soak-sums.ts'
import type { SoakTraffic } from './soak-traffic.ts'

/**
 * Frames of a flow on their way at any time: a tap's queue holds 500 (TUN_READQ_SIZE in drivers/net/tun.c) and drops what
 * comes on top.
 */
const WINDOW = 448
/** Before each so manieth checkpoint so many frames of each flow are sent while nobody receives: the taps drop some. */
const OVERRUN_EVERY = 4
const OVERRUN = 2000
/** What V8 may come to keep between two of its collections. */
const MOST_GROWTH = 64 << 20

export interface SoakOptions {
  /** Frames to be sent, by both NICs together. */
  packets: number
  /** How often it comes to rest. */
  checkpoints: number
  /** Called every now and then with the frames sent so far. */
  progress?: (packets: number) => void
  /** Called at each checkpoint. */
  checked?: (checkpoint: Checkpoint) => void
}

/** On traffic that is at rest. @returns each checkpoint, the last one with where the rings stand */
export async function soak(traffic: SoakTraffic, options: SoakOptions): Promise<Checkpoint[]> {
  const { packets, checkpoints, progress, checked } = options
  const started = performance.now()
  const begin = traffic.sent
  const before = traffic.sums()
  const done: Checkpoint[] = []
  let held: { resources: Resources; rss: number } | undefined

  /** Grants frames until so many have been sent in all. */
  const until = (most: number) => {
    let left = most - (traffic.sent - begin)
    return (wanted: number): number => {
      const granted = Math.max(0, Math.min(left, wanted))
      left -= granted
      progress?.(traffic.sent - begin)
      return granted
    }
  }

  for (let round = 1; round <= checkpoints; round++) {
    await traffic.introduce()
    const most = Math.floor((packets * round) / checkpoints)
    if (round % OVERRUN_EVERY === 0) {
      await traffic.overrun(until(Math.min(most, traffic.sent - begin + OVERRUN * traffic.flowCount)))
    }
    await traffic.send(until(most), WINDOW)
    const { rss } = process.memoryUsage()
    const now = resources()
    const directions = traffic.sums().map((sums, i) => since(before[i]!, sums))
    const wrong = [...directions.flatMap(differences), ...traffic.wrong()]
    if (held !== undefined) {
      wrong.push(...diff(held.resources, now))
      if (rss - held.rss > MOST_GROWTH) wrong.push(`resident memory: ${held.rss} bytes, then ${rss}`)
    }
    held ??= { resources: now, rss }
    if (round === checkpoints) wrong.push(...traffic.nics.flatMap((nic) => nic.misplaced()))
    const seconds = (performance.now() - started) / 1000
    const checkpoint = { packets: traffic.sent - begin, seconds, directions, rss, wrong }
    done.push(checkpoint)
    checked?.(checkpoint)
  }
  return done
}
