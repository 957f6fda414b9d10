// Who made a port: a mark on it that says which process, so that what a killed one has left is told from all others.

import { readFileSync, readlinkSync } from 'node:fs'

/** The key of the mark, among a port's `external_ids`. */
export const OWNER_KEY = 'vhost-net-owner'

/** The mark of a port that no process ends with. */
export const PERSISTENT = 'persistent'

/** proc_pid_stat(5), field 22: when it started, in clock ticks since boot. The name before may hold anything. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    // It ended, or is hidden from this user.
    return undefined
  }
}

const boot = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()

/** Numbers of processes count within one namespace only. */
const pidNamespace = (): string => /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? ''

/** The mark of this process: boot, namespace of its number, number and start. */
export function ownMark(): string {
  return [boot(), pidNamespace(), process.pid, startTime(process.pid)].join('/')
}

/** The process in a mark, for a message. */
export const describeOwner = (mark: string): string =>
  mark === PERSISTENT ? 'a user of this package, persistently' : `process ${mark.split('/')[2] ?? mark}`

/**
 * Whether the process that made the mark has ended. False where it cannot be told: it may be of another namespace, or of
 * another host.
 * @param sameHost whether the mark was surely made on this host: then another boot's process is gone.
 */
export function hasEnded(mark: string, sameHost: boolean): boolean {
  const [itsBoot, itsNamespace, number, start] = mark.split('/')
  const pid = Number(number)
  if (start === undefined || !Number.isInteger(pid) || pid < 1) return false
  if (itsBoot !== boot()) return sameHost
  if (itsNamespace !== pidNamespace()) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it lives, under another user.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true
  }
  const now = startTime(pid)
  return now !== undefined && now !== start
}
