// Temporary directories in the cache, each named after the process that made it: PREFIX-PID.

import { existsSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { cacheDirectory } from './project.ts'

export const temporaryDirectory = (prefix: string, pid: number): string => path.join(cacheDirectory, `${prefix}-${pid}`)

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Removes those of processes that were killed. */
export const removeLeftovers = (prefix: string): void => {
  const names = existsSync(cacheDirectory) ? readdirSync(cacheDirectory) : []
  for (const name of names.filter((each) => each.startsWith(`${prefix}-`))) {
    const pid = Number(name.slice(prefix.length + 1))
    if (!isAlive(pid)) rmSync(temporaryDirectory(prefix, pid), { recursive: true, force: true })
  }
}
