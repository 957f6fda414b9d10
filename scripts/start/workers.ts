// vhost's workers as the host's scheduler has them, and which of them serves which pair.
//
// A worker is called vhost-PID, after the thread that became the owner of its vhost-net fd: from Linux 6.4 on it is a thread of
// that process (vhost_task), before a thread of the kernel. Nothing tells which fd it belongs to; that shows when one pair alone
// has something to do.

import { readdirSync, readFileSync } from 'node:fs'

export interface Worker {
  name: string
  tid: number
  cpuMs: number
}

/** A process or thread may end while it is looked at. */
function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}

/** /proc/…/schedstat begins with the nanoseconds on a CPU. */
export const parseSchedstat = (text: string): number => Number.parseInt(text, 10) / 1e6

function within(directory: string, wanted: RegExp): Worker[] {
  const tids = readdirSync(directory).filter((entry) => /^\d+$/.test(entry))
  return tids.flatMap((tid) => {
    const name = read(`${directory}/${tid}/comm`)?.trim() ?? ''
    if (!wanted.test(name)) return []
    const schedstat = read(`${directory}/${tid}/schedstat`)
    return schedstat === undefined ? [] : { name, tid: Number(tid), cpuMs: parseSchedstat(schedstat) }
  })
}

/** Those of this process; none where they are threads of the kernel and this is not its first PID namespace. */
export function vhostWorkers(): Worker[] {
  const own = within('/proc/self/task', /^vhost-\d+$/)
  return own.length > 0 ? own : within('/proc', new RegExp(`^vhost-${process.pid}$`))
}

/** The one that ran most in between; undefined where none ran more than all others. */
export function busiest(before: readonly Worker[], after: readonly Worker[]): number | undefined {
  const ran = after
    .map(({ tid, cpuMs }) => ({ tid, cpuMs: cpuMs - (before.find((worker) => worker.tid === tid)?.cpuMs ?? 0) }))
    .toSorted((a, b) => b.cpuMs - a.cpuMs)
  const [first, second] = ran
  return first !== undefined && first.cpuMs > (second?.cpuMs ?? 0) ? first.tid : undefined
}
