// Runs one of child-scenarios.ts in a process of its own.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

const script = fileURLToPath(new URL('./child-scenarios.js', import.meta.url))

export interface ScenarioResult {
  status: number | null
  signal: NodeJS.Signals | null
  /** The last line it printed, parsed; undefined where it printed nothing. */
  output: unknown
  stderr: string
}

export interface RunningScenario {
  child: ChildProcess
  /** Resolves with each next line it prints, parsed. */
  next: () => Promise<unknown>
  ended: Promise<ScenarioResult>
}

/** Starts it; `execArgv` are options of Node.js. */
export function startScenario(
  name: string,
  args: readonly string[],
  execArgv: readonly string[] = [],
): RunningScenario {
  return follow([process.execPath, ...execArgv, script, name, ...args])
}

function follow([command, ...args]: [string, ...string[]], fds: readonly number[] = []): RunningScenario {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds] })
  if (child.stdout === null || child.stderr === null) throw new Error('they are pipes')
  const lines = createInterface({ input: child.stdout })
  const iterator = lines[Symbol.asyncIterator]()
  let output: unknown
  lines.on('line', (line) => {
    output = JSON.parse(line)
  })
  const stderr = text(child.stderr)
  const ended = once(child, 'close').then(async ([status, signal]) => ({
    status,
    signal,
    output,
    stderr: await stderr,
  }))
  return { child, next: async () => JSON.parse((await iterator.next()).value), ended }
}

/** Runs it to its end. */
export function runScenario(name: string, ...args: string[]): Promise<ScenarioResult> {
  return startScenario(name, args).ended
}

/** Runs it to its end, with so many files open at most. */
export function runWithFiles(most: number, name: string, ...args: string[]): Promise<ScenarioResult> {
  return follow(['prlimit', `--nofile=${most}:${most}`, process.execPath, script, name, ...args]).ended
}

// The checkout may lie where nobody may look; but opening a device takes more than reading. Not process.setuid(): Node.js
// refuses that where its libuv may be using io_uring.
const asNobody = [
  ...['--reuid', '65534', '--regid', '65534', '--clear-groups'],
  ...['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search', '--'],
]

/** Runs it to its end, as user and group 65534. */
export function runAsNobody(name: string, ...args: string[]): Promise<ScenarioResult> {
  return runAsNobodyWith([], name, ...args)
}

/** The same with open files of ours, which it has as 3 and so on. */
export function runAsNobodyWith(fds: readonly number[], name: string, ...args: string[]): Promise<ScenarioResult> {
  return follow(['setpriv', ...asNobody, process.execPath, script, name, ...args], fds).ended
}
