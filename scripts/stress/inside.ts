// The storm where it runs. Arguments: flips, rewrites, and how the result is told: table or json.

import { cpus, release } from 'node:os'
import { InterruptStorm, type StormReport } from '../../test/support/interrupt-storm.ts'
import { count } from '../count.ts'
import { isInOrder, stressTable } from './table.ts'

/** Between two lines that say how far it is. */
const PROGRESS_MS = 5000

const [flips = 0, rewrites = 0] = process.argv.slice(2).map(Number)
const json = process.argv[4] === 'json'

let next = PROGRESS_MS
const progress = ({ flips: done, frames, lost, seconds }: StormReport): void => {
  if (seconds * 1000 < next) return
  next = seconds * 1000 + PROGRESS_MS
  const sofar = `${count(done)} of ${count(flips)} flips, ${count(frames.answered)} frames each way, ${lost.length} lost`
  process.stderr.write(`stress: ${sofar}, ${seconds.toFixed()} s\n`)
}

const storm = await InterruptStorm.open()
try {
  const report = await storm.run({ flips, rewrites, progress })
  const machine = { kernel: release(), lab: process.env.LAB === '1', cpu: cpus()[0]?.model ?? '', cpus: cpus().length }
  const text = json ? JSON.stringify({ machine, ...report }, undefined, 2) : stressTable(report, machine).join('\n')
  process.stdout.write(`${text}\n`)
  if (!isInOrder(report)) process.exitCode = 1
} finally {
  await storm.close()
}
