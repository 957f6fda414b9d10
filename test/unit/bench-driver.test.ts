// What `npm run bench -- driver` makes of its samples: medians, multiples, verdicts, a table that fits.

import assert from 'node:assert/strict'
import { judge, summarize } from '../../scripts/bench/driver-figures.ts'
import { plotDriver } from '../../scripts/bench/driver-plot.ts'
import { tableOfDriver } from '../../scripts/bench/driver-table.ts'
import type { DriverBench, Row } from '../bench/driver/main.ts'

function row(direction: Row['direction'], path: string, instructions: readonly number[]): Row {
  const samples = instructions.map((instructionsPerPacket) => ({ packets: 1000, instructionsPerPacket, idle: 0 }))
  return { direction, size: 64, path, samples }
}

function benchOf(rows: Row[]): DriverBench {
  const footprint = { resident: 2 ** 26, heap: 2 ** 22, fds: 19, threads: 11, mappings: 150 }
  return {
    kernel: '6.12.0-test',
    node: 'v20.20.2',
    rows,
    pairs: [
      { pairs: 1, open: 7, start: 30, stop: 16, close: 4 },
      { pairs: 256, open: 1500, start: 7000, stop: 4000, close: 1024 },
    ],
    footprints: [
      { cycles: 10, ...footprint },
      { cycles: 100, ...footprint },
    ],
  }
}

const rows = [
  row('tx', 'C', [1000, 1010, 990]),
  row('tx', 'native loop', [1030, 1015, 1019]),
  row('tx', 'JavaScript bursts', [1200, 1050, 1101]),
  row('tx', 'fs.writeSync', [3000, 2900, 3100]),
  row('tx', 'fs.write', [20000, 20000, 20000]),
]

describe('the figures of the driver bench', () => {
  it('are medians, their distance from the farthest sample, and multiples of the program in C', () => {
    const [, native] = summarize(rows)
    assert.deepEqual(
      { instructions: native?.instructions, ratio: native?.ratio, spread: native?.spread.toFixed(4) },
      { instructions: 1019, ratio: 1.019, spread: (11 / 1019).toFixed(4) },
    )
  })

  it('take the mean of the two in the middle where the number of samples is even', () => {
    const [c] = summarize([row('rx', 'C', [4, 1, 3, 2])])
    assert.equal(c?.instructions, 2.5)
  })

  it('are held to what must be reached', () => {
    const verdicts = judge(summarize(rows), benchOf(rows).pairs)
    assert.deepEqual(
      verdicts.map(({ what, value, reached }) => [what, Number(value.toFixed(3)), reached]),
      [
        ['tx 64: native loop / C', 1.019, true],
        ['tx 64: JavaScript bursts / C', 1.101, false],
        ['tx 64: fs.writeSync / JavaScript bursts', 2.725, true],
        ['tx 64: fs.write / JavaScript bursts', 18.165, true],
        ['system calls of a pair among 256 / of one alone', 0.927, true],
      ],
    )
  })

  it('fit a terminal of 100 columns, and say what was missed', () => {
    const bench = benchOf(rows)
    const figures = summarize(rows)
    const table = tableOfDriver(bench, figures, judge(figures, bench.pairs))
    for (const line of table.split('\n')) assert.ok(line.length <= 100, line)
    assert.match(table, /MISSED +tx 64: JavaScript bursts \/ C +1\.101 +at most 1\.1/)
  })

  it('say where the instructions go where even the program in C could not reach them', () => {
    const slow = [...rows.slice(0, 4), row('tx', 'fs.write', [9000])]
    const verdict = judge(summarize(slow), benchOf(slow).pairs).find(({ what }) => what.includes('fs.write /'))
    assert.match(verdict?.note ?? '', /the program in C itself reaches 9\.00/)
  })

  it('say where the instructions go where bursts take more than they may', () => {
    const samples = [{ packets: 1, instructionsPerPacket: 1200, idle: 0, thread: 99.6, source: 640 }]
    const missed = [row('rx', 'C', [1000]), { ...row('rx', 'JavaScript bursts', []), samples }]
    assert.match(
      judge(summarize(missed), benchOf(missed).pairs)[0]?.note ?? '',
      /^of 1,200 instructions the JavaScript thread takes 100, and what feeds it, .* 640$/,
    )
  })

  it('are drawn, a bar for each path', () => {
    const svg = plotDriver(benchOf(rows), summarize(rows))
    assert.equal(svg.match(/<rect /g)?.length, 1 + rows.length)
    assert.match(svg, /tx 64 fs\.write<\/text>.*20\.00 × C/s)
  })
})
