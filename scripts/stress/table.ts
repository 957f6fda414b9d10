// What `npm run stress` tells; 100 columns.

import type { StormReport } from '../../test/support/interrupt-storm.ts'
import { count } from '../count.ts'

/** What it ran on. */
export interface Machine {
  /** What `uname -r` says. */
  readonly kernel: string
  /** An emulated one. */
  readonly lab: boolean
  readonly cpu: string
  readonly cpus: number
}

const NAMES_WIDTH = 24
/** Of the interrupts that were lost, those that are told one by one. */
const TOLD = 10

/** No interrupt was lost, and none came that must not. */
export function isInOrder({ lost, whileMasked, misdirected }: StormReport): boolean {
  return lost.length === 0 && whileMasked === 0 && misdirected === 0
}

export function stressTable(report: StormReport, { kernel, lab, cpu, cpus }: Machine): string[] {
  const line = (name: string, value: string): string => `${name.padEnd(NAMES_WIDTH)}${value}`
  const { flips, byFunction, held, rewrites, frames, interrupts, lost, seconds } = report
  return [
    line('flips', `${count(flips)}, ${count(byFunction)} of them by the function mask`),
    line('  with one pending', `${count(held)}, waited for`),
    line('rewrites', count(rewrites)),
    line('frames', `${count(frames.sent)} sent, ${count(frames.answered)} received`),
    ...interrupts.map(({ rx, tx }, pair) => line(`interrupts, pair ${pair}`, `rx ${count(rx)}  tx ${count(tx)}`)),
    line('lost', count(lost.length)),
    line('of a masked vector', count(report.whileMasked)),
    line('by a replaced message', count(report.misdirected)),
    line('spurious', count(report.spurious)),
    line('duration', `${seconds.toFixed(1)} s`),
    line('on', `Linux ${kernel}, ${cpus} × ${cpu}${lab ? ', emulated' : ''}`),
    ...lost.slice(0, TOLD).map((one) => `LOST  ${JSON.stringify(one)}`),
  ]
}
