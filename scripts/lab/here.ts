// Runs the command on this machine itself, where it can do what the lab would provide.

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { release } from 'node:os'
import { runChild } from './child.ts'
import { exitCodes, LabError } from './failure.ts'

/** What this machine lacks to be used instead of the lab; empty if nothing. */
export const missingHere = (): string[] => {
  const devices = ['/dev/vhost-net', '/dev/net/tun'].filter((device) => !existsSync(device))
  return process.getuid?.() === 0 ? devices : [...devices, 'root rights']
}

export const runHere = async (
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
  outDirectory: string,
): Promise<number> => {
  const missing = missingHere()
  if (missing.length > 0) throw new LabError(exitCodes.notReady, `this machine lacks ${missing.join(' and ')}`)
  await mkdir(outDirectory, { recursive: true })
  const variables = { ...process.env, LAB_KERNEL: release(), LAB_OUT: outDirectory, ...environment }
  try {
    return await runChild(command, variables)
  } catch (error) {
    throw new LabError(exitCodes.notReady, `cannot run ${command[0]}: ${(error as Error).message}`, { cause: error })
  }
}
