// Where `npm run fuzz` runs. Argument: the job, as JSON. What is fuzzed is a process of its own, since it may crash or hang.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { cpus, release, tmpdir } from 'node:os'
import path from 'node:path'
import type { FuzzReport } from '../../test/support/fuzz/run.ts'
import type { Job } from './job.ts'
import { fuzzTable, isClean } from './table.ts'

/** An episode that takes longer does not end. */
const MOST_MS = 90_000
const LOOK_MS = 1000

const argument = process.argv[2] ?? ''
const job = JSON.parse(argument) as Job
const directory = mkdtempSync(path.join(tmpdir(), 'fuzz-'))
const [position, result] = ['position', 'result'].map((name) => path.join(directory, name)) as [string, string]

const episodeNow = (): number | undefined => {
  const bytes = readFileSync(position)
  return bytes.length < 8 ? undefined : Number(bytes.readBigUInt64LE())
}

/** Runs it to its end, and says how that was. */
async function fuzz(): Promise<string | undefined> {
  const files = [openSync(position, 'w'), openSync(result, 'w')]
  // What it says may be on stdout by accident only: there the result goes.
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'episodes.js'), argument], {
    stdio: ['ignore', process.stderr, process.stderr, ...files],
  })
  for (const file of files) closeSync(file)
  let [last, since] = [episodeNow(), performance.now()]
  let hangs = false
  const watch = setInterval(() => {
    const now = episodeNow()
    if (now !== last) since = performance.now()
    last = now
    hangs ||= performance.now() - since > MOST_MS
    if (hangs) child.kill('SIGKILL')
  }, LOOK_MS)
  const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  clearInterval(watch)
  if (hangs) return `the process hung for ${MOST_MS / 1000} s`
  return status === 0 ? undefined : `the process ended with ${signal ?? `exit code ${status}`}`
}

try {
  const ended = await fuzz()
  if (ended !== undefined) {
    const again = `--seed ${job.seed} --episode ${episodeNow() ?? 0}`
    process.stderr.write(`fuzz: ${ended}. To see it again: ${again}\n`)
    process.exitCode = 1
  } else {
    const report = JSON.parse(readFileSync(result, 'utf8')) as FuzzReport
    const machine = {
      kernel: release(),
      lab: process.env.LAB === '1',
      cpu: cpus()[0]?.model ?? '',
      cpus: cpus().length,
    }
    const text = job.json ? JSON.stringify({ machine, ...report }, undefined, 2) : fuzzTable(report, machine).join('\n')
    process.stdout.write(`${text}\n`)
    // A bug that was planted is to be found.
    if (isClean(report) !== (job.plant === undefined)) process.exitCode = 1
  }
} finally {
  rmSync(directory, { recursive: true })
}
