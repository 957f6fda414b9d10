// The soak where it runs. Arguments: packets, pairs, and how the result is told: table or json.

import { cpus, release } from 'node:os'
import { soak } from '../../test/support/soak.ts'
import { SoakTraffic } from '../../test/support/soak-traffic.ts'
import { duration, isInOrder, soakEnd, soakHead, soakLine } from './table.ts'

/** Between two lines that say how far it is. */
const PROGRESS_MS = 5000
/** Between two checkpoints, or a twentieth of all. */
const PACKETS_A_CHECKPOINT = 2e6
const LEAST_CHECKPOINTS = 20

const [packets = 0, pairs = 0] = process.argv.slice(2).map(Number)
const json = process.argv[4] === 'json'
// With --json one document is all that stdout has.
const tell = (text: string): void => void (json ? process.stderr : process.stdout).write(`${text}\n`)

const started = performance.now()
let last = { at: started, done: 0 }
const progress = (done: number): void => {
  const now = performance.now()
  if (now - last.at < PROGRESS_MS) return
  const perSecond = (1000 * (done - last.done)) / (now - last.at)
  const left = ((packets - done) * (now - started)) / 1000 / done
  last = { at: now, done }
  const percent = ((100 * done) / packets).toFixed(1)
  process.stderr.write(`soak: ${percent} %, ${perSecond.toFixed()} frames a second, ${duration(left)} to go\n`)
}

const traffic = await SoakTraffic.open(pairs)
try {
  for (const text of soakHead()) tell(text)
  const checkpoints = await soak(traffic, {
    packets,
    checkpoints: Math.max(LEAST_CHECKPOINTS, Math.ceil(packets / PACKETS_A_CHECKPOINT)),
    progress,
    checked: (checkpoint) => tell(soakLine(checkpoint)),
  })
  const machine = { kernel: release(), lab: process.env.LAB === '1', cpu: cpus()[0]?.model ?? '', cpus: cpus().length }
  for (const text of soakEnd(checkpoints, { pairs, ...machine })) tell(text)
  if (json) process.stdout.write(`${JSON.stringify({ machine, packets, pairs, checkpoints }, undefined, 2)}\n`)
  if (!isInOrder(checkpoints)) process.exitCode = 1
} finally {
  await traffic.close()
}
