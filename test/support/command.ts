// `vhost-net` as a user runs it.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

/** The program's file. */
export const main = fileURLToPath(new URL('../../../dist/lib/cli/main.js', import.meta.url))

/** How it ended, and all it wrote. */
export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Starts it; its stdin is open. */
export function start(...args: string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [main, ...args])
}

export async function end(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const [[code, signal], stdout, stderr] = await Promise.all([
    once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>,
    text(child.stdout),
    text(child.stderr),
  ])
  return { code, signal, stdout, stderr }
}

export const run = (...args: string[]): Promise<Ended> => end(start(...args))

/** Ends a child that has not ended, by SIGKILL. Resolves once it is gone, and all that it wrote was read. */
export async function kill(child: ChildProcessWithoutNullStreams): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = once(child, 'close')
  child.kill('SIGKILL')
  await closed
}
