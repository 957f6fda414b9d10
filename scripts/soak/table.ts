// What `npm run soak` tells; 100 columns.

import type { Checkpoint } from '../../test/support/soak-sums.ts'
import { count } from '../count.ts'

/** What it ran on. */
export interface Setting {
  readonly pairs: number
  /** What `uname -r` says. */
  readonly kernel: string
  /** An emulated one. */
  readonly lab: boolean
  readonly cpu: string
  readonly cpus: number
}

const HEAD = ['sent', 'received', 'dropped', 'received', 'dropped', 'a second', 'RSS MiB', 'time', '']
const WIDTHS = [13, 13, 11, 13, 11, 9, 8, 9, 7]

const line = (cells: readonly string[]): string => cells.map((cell, i) => cell.padStart(WIDTHS[i]!)).join('')

/** `'1:02:03'`, `'2:03'` */
export function duration(seconds: number): string {
  const whole = Math.round(seconds)
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const shown = parts[0] === 0 ? parts.slice(1) : parts
  return shown.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, '0'))).join(':')
}

/** There is a checkpoint, and nothing is wrong at any. */
export function isInOrder(checkpoints: readonly Checkpoint[]): boolean {
  return checkpoints.length > 0 && checkpoints.every(({ wrong }) => wrong.length === 0)
}

export const soakHead = (): string[] => [
  `${' '.repeat(WIDTHS[0]!)}${'A to B, frames'.padStart(WIDTHS[1]! + WIDTHS[2]!)}${'B to A, frames'.padStart(WIDTHS[3]! + WIDTHS[4]!)}`,
  line(HEAD).trimEnd(),
]

export function soakLine({ packets, seconds, directions, rss, wrong }: Checkpoint): string {
  const sums = directions.flatMap(({ checked, missing }) => [count(checked), count(missing)])
  const cells = [
    count(packets),
    ...sums,
    count(Math.round(packets / seconds)),
    (rss / 2 ** 20).toFixed(),
    duration(seconds),
    wrong.length === 0 ? 'exact' : 'WRONG',
  ]
  return [line(cells), ...wrong.map((text) => `  ${text}`)].join('\n')
}

export function soakEnd(checkpoints: readonly Checkpoint[], { pairs, kernel, lab, cpu, cpus }: Setting): string[] {
  const good = checkpoints.filter(({ wrong }) => wrong.length === 0).length
  return [
    `${good} of ${checkpoints.length} checkpoints exact, ${pairs} queue pairs on each side`,
    `on Linux ${kernel}, ${cpus} × ${cpu}${lab ? ', emulated' : ''}`,
  ]
}
