// Runs a plan's tests, here or in the lab: `run.js PLAN.json`. Prints a line of JSON for each run as it ends.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, constants, tmpdir } from 'node:os'
import path from 'node:path'
import type { Run, RunResult, TestEvent } from './plan.ts'

const directory = mkdtempSync(path.join(tmpdir(), 'mutants-'))
const mocha = path.join(import.meta.dirname, 'mocha.js')

// What a fault leaves of network devices must not be there for the next one; sysfs shows those of who mounted it.
const isolated = ['unshare', '--net', '--mount', 'sh', '-c']
const isolation = 'mount -t sysfs sysfs /sys && ip link set lo up && exec "$0" "$@"'

const commandFor = (run: Run, eventsFile: string): string[] => {
  const command = [process.execPath, mocha, JSON.stringify(run), eventsFile]
  return run.test.startsWith('kernel/') ? [...isolated, isolation, ...command] : command
}

const running = new Set<number>()

/** A test may have started processes of its own. */
const killGroup = (leader: number): void => {
  running.delete(leader)
  try {
    process.kill(-leader, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

const readEvents = (file: string): TestEvent[] => {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line) as TestEvent)
}

const perform = async (run: Run): Promise<RunResult> => {
  const eventsFile = path.join(directory, run.id.replaceAll('/', '-'))
  const [command = '', ...args] = commandFor(run, eventsFile)
  const start = performance.now()
  const child = spawn(command, args, { cwd: run.root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const leader = child.pid
  if (leader === undefined) throw new Error(`cannot run ${command}`)
  running.add(leader)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = `${output}${chunk}`.slice(-2000)
    })
  }
  let timedOut = false
  const limit = setTimeout(() => {
    timedOut = true
    killGroup(leader)
  }, run.seconds * 1000)
  child.on('exit', () => killGroup(leader))
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null]
  clearTimeout(limit)
  const seconds = (performance.now() - start) / 1000
  return { id: run.id, events: readEvents(eventsFile), status, signal, timedOut, seconds, output }
}

/**
 * Two tests of one file are never under way at a time: they use the same names, and settings of the whole machine. Of
 * one file, the runs keep their order.
 */
const performAll = async (runs: readonly Run[]): Promise<void> => {
  const left = [...runs]
  const busy = new Set<string>()
  const lane = async (): Promise<void> => {
    for (;;) {
      const run = left.find(({ test }) => !busy.has(test))
      // Of what is left, if anything is, another lane has the files.
      if (run === undefined) return
      left.splice(left.indexOf(run), 1)
      busy.add(run.test)
      const result = await perform(run)
      busy.delete(run.test)
      process.stdout.write(`${JSON.stringify(result)}\n`)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, lane))
}

process.on('exit', () => {
  for (const leader of running) killGroup(leader)
  rmSync(directory, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(128 + constants.signals[signal]))
}

const [planFile = ''] = process.argv.slice(2)
await performAll(JSON.parse(readFileSync(planFile, 'utf8')) as Run[])
