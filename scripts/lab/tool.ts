// Runs a tool of the host and hands back what it printed.

import { type SpawnSyncOptions, spawnSync } from 'node:child_process'
import { exitCodes, LabError } from './failure.ts'

/** Larger than any kernel image, the largest thing that a tool returns here. */
const maxBuffer = 256 * 1024 * 1024

/** Runs `command` to its end; its standard output is the result, unless `options.stdio` sends it elsewhere. */
export const runTool = (command: string, args: readonly string[], options: SpawnSyncOptions = {}): Buffer => {
  const result = spawnSync(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    maxBuffer,
    ...options,
    encoding: 'buffer',
  })
  if (result.error !== undefined) {
    throw new LabError(exitCodes.notReady, `cannot run ${command}: ${result.error.message}`, { cause: result.error })
  }
  if (result.status !== 0) {
    const ending = result.signal === null ? `exit code ${result.status}` : result.signal
    throw new LabError(exitCodes.notReady, `${command} ${args.join(' ')} failed (${ending})`)
  }
  return result.stdout ?? Buffer.alloc(0)
}
