// How much memory a VMM takes besides its guest's: proportional set size, where a page that several share counts in parts.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'

const KiB = 1024
/** A memfd, or anonymous memory, which may have a name. */
const UNFILED = /^\S+ rw\S+ \S+ \S+ \d+\s*(?:\/memfd:.*|\[anon:.*\])?$/

export interface Pss {
  /** Bytes. */
  total: number
  /** Of the guest's memory: the mappings that are as large, and of no file on a disk. */
  ram: number
}

/** @param smaps of /proc/PID/smaps @param ramBytes of the guest */
export function parseSmaps(smaps: string, ramBytes: number): Pss {
  let total = 0
  let ram = 0
  for (const mapping of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const pss = KiB * Number(/^Pss:\s+(\d+) kB$/m.exec(mapping)?.[1] ?? 0)
    const size = KiB * Number(/^Size:\s+(\d+) kB$/m.exec(mapping)?.[1] ?? 0)
    total += pss
    if (size >= ramBytes && UNFILED.test(mapping.split('\n', 1)[0] as string)) ram += pss
  }
  return { total, ram }
}

export const pssOf = (pid: number, ramBytes: number): Pss =>
  parseSmaps(readFileSync(`/proc/${pid}/smaps`, 'utf8'), ramBytes)

/** Of this Node.js with an event loop that waits and nothing else, beside this process as a VMM is. */
export async function bareNode(): Promise<Pss> {
  const program = 'process.stdout.write("ready\\n"); process.stdin.resume()'
  const child: ChildProcess = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout as Readable, 'data')
  const pss = pssOf(child.pid as number, Number.POSITIVE_INFINITY)
  const ended = once(child, 'close')
  child.kill()
  await ended
  return pss
}
