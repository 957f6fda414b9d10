// Runs a child process in this one's place: same output, same exit code, same end by a signal.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { projectRoot } from './project.ts'

const forwarded = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const

/** Writes each line of `from` with `prefix` in front of it. */
const passOn = (from: Readable, to: Writable, prefix: string): void => {
  createInterface({ input: from }).on('line', (line) => to.write(`${prefix}${line}\n`))
}

/**
 * The exit code of `command`, or 128 + N if signal N ended it. Runs in the project's directory, without input.
 * @param prefix for each line of output, where several run side by side.
 */
export const runChild = async (
  command: readonly string[],
  environment: NodeJS.ProcessEnv,
  prefix?: string,
): Promise<number> => {
  const [file = '', ...args] = command
  const output = prefix === undefined ? 'inherit' : 'pipe'
  const child = spawn(file, args, { cwd: projectRoot, env: environment, stdio: ['ignore', output, output] })
  if (child.stdout !== null) passOn(child.stdout, process.stdout, prefix ?? '')
  if (child.stderr !== null) passOn(child.stderr, process.stderr, prefix ?? '')
  let received: NodeJS.Signals | undefined
  const forward = (signal: NodeJS.Signals): void => {
    received = signal
    child.kill(signal)
  }
  for (const signal of forwarded) process.on(signal, forward)
  try {
    const [status, signal] = (await once(child, 'close')) as [number, null] | [null, NodeJS.Signals]
    return signal === null ? status : 128 + constants.signals[signal]
  } finally {
    for (const signal of forwarded) process.off(signal, forward)
    // Now that the child has cleaned up, what should end us does.
    if (received !== undefined) process.kill(process.pid, received)
  }
}
