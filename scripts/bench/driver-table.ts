// The result of `npm run bench -- driver` for people: tables of at most 100 columns.

import type { Footprint } from '../../test/bench/driver/cycles.ts'
import type { DriverBench } from '../../test/bench/driver/main.ts'
import { align } from './align.ts'
import type { Figure, Verdict } from './driver-figures.ts'

const count = (value: number): string => Math.round(value).toLocaleString('en-US')
const percent = (part: number): string => (part * 100).toFixed(1)
const MiB = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)

function paths(figures: readonly Figure[]): string[] {
  const head = ['', 'bytes', 'path', 'instructions', '± %', '× C', 'kicks', 'sleeps', 'idle %']
  const rows = figures.map(({ direction, size, path, instructions, spread, ratio, kicks, sleeps, idle }) => [
    direction,
    String(size),
    path,
    count(instructions),
    percent(spread),
    ratio.toFixed(3),
    kicks?.toFixed(1) ?? '',
    sleeps?.toFixed(1) ?? '',
    percent(idle),
  ])
  return align([head, ...rows], [0, 2])
}

function pairs({ pairs }: DriverBench): string[] {
  const rows = pairs.map(({ pairs, open, start, stop, close }) => {
    const each = ((open + start + stop + close) / pairs).toFixed(1)
    return [pairs, open, start, stop, close].map(count).concat(each)
  })
  return align([['pairs', 'open', 'start', 'stop', 'close', 'a pair'], ...rows])
}

function footprints(list: readonly Footprint[]): string[] {
  const shown = [list[0], list.at(-1)] as Footprint[]
  const rows = shown.map(({ cycles, resident, heap, fds, threads, mappings }) => [
    count(cycles),
    MiB(resident),
    MiB(heap),
    ...[fds, threads, mappings].map(String),
  ])
  return align([['cycles', 'MiB resident', 'MiB heap', 'fds', 'threads', 'mappings'], ...rows])
}

function judgement(list: readonly Verdict[]): string[] {
  const lines = align(
    list.map(({ what, value, kind, limit, reached }) => [
      reached ? 'ok' : 'MISSED',
      what,
      value.toFixed(3),
      `${kind} ${limit}`,
    ]),
    [0, 1, 3],
  )
  return list.flatMap(({ note }, i) => [lines[i] as string, ...(note === undefined ? [] : [`        ${note}`])])
}

export function tableOfDriver(bench: DriverBench, figures: readonly Figure[], verdicts: readonly Verdict[]): string {
  const samples = bench.rows[0]?.samples.length
  return [
    `Linux ${bench.kernel} with init_on_alloc=0, Node.js ${bench.node}: instructions of the whole machine for a`,
    `packet, median of ${samples}; kicks and sleeps for 1000 packets`,
    '',
    ...paths(figures),
    '',
    'System calls of the JavaScript thread, for all pairs together',
    '',
    ...pairs(bench),
    '',
    'What is left after cycles of opening, starting and closing a pair',
    '',
    ...footprints(bench.footprints),
    '',
    ...judgement(verdicts),
    '',
  ].join('\n')
}
