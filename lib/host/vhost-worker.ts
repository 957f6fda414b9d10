// The kernel's worker of a vhost fd: which thread it is, its time, and where it may run.

import { binding, type Hints, systemCall } from '../binding/index.ts'
import { SystemCallError } from '../errors.ts'
import { checkInteger } from '../options.ts'
import { listKernelFolder, readKernelFile } from './kernel-file.ts'
import type { Vhost } from './vhost.ts'

const hints: Hints = {
  ESRCH: 'The worker has ended: its vhost fd was closed, or its process is ending.',
  EPERM: 'CAP_SYS_NICE is needed.',
  EINVAL: "None of these CPUs is there, or the process's cpuset has none of them: see Cpus_allowed_list in its status.",
}

/** CONFIG_NR_CPUS is at most that. */
const MOST_CPUS = 8192

/** Before Linux 6.4 a kernel thread of its own (kernel/kthread.c); since then a thread of the owner's process (kernel/vhost_task.c). */
export class VhostWorker {
  readonly tid: number
  readonly #subject: string

  constructor(tid: number) {
    this.tid = tid
    this.#subject = `vhost worker ${tid}`
  }

  /** Nanoseconds for which it ran. @throws {SystemCallError} `ENOENT`, `ESRCH` once it has ended */
  cpuTime(): number {
    return this.#call(() => binding().threadCpuTime(this.tid))
  }

  /** The CPUs it may run on. @throws {SystemCallError} `ESRCH` */
  affinity(): number[] {
    return this.#call(() => binding().schedGetaffinity(this.tid))
  }

  /**
   * Lets it run on these CPUs only.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   * @throws {SystemCallError} `EINVAL` where none of them is there or allowed, `EPERM`, `ESRCH`
   */
  setAffinity(cpus: readonly number[]): void {
    for (const [i, cpu] of cpus.entries()) checkInteger(cpu, `cpus[${i}]`, 0, MOST_CPUS - 1)
    this.#call(() => binding().schedSetaffinity(this.tid, Uint32Array.from(cpus)))
  }

  #call<T>(operation: () => T): T {
    return systemCall(operation, { subject: this.#subject, hints })
  }
}

const tids = (folder: string): string[] => listKernelFolder(folder).filter((name) => /^\d+$/.test(name))

function isWorker(directory: string, tid: string): boolean {
  try {
    return /^vhost-\d+\n$/.test(readKernelFile(`${directory}/${tid}/comm`))
  } catch (error) {
    // Whoever it was has ended.
    if (error instanceof SystemCallError && (error.code === 'ENOENT' || error.code === 'ESRCH')) return false
    throw error
  }
}

const PLACES = ['/proc/self/task', '/proc']

/**
 * VHOST_SET_OWNER, and the worker which that makes: the kernel says its name only. Undefined where it cannot be told, as
 * where it is a kernel thread and this process has a PID namespace of its own.
 * @throws {SystemCallError} `EBUSY`, `ENOMEM`, `EMFILE`
 */
export function startWorker(vhost: Vhost): VhostWorker | undefined {
  const before = PLACES.map((directory) => new Set(tids(directory)))
  vhost.setOwner()
  for (const [i, directory] of PLACES.entries()) {
    const made = tids(directory).filter((tid) => !before[i]?.has(tid) && isWorker(directory, tid))
    // Another thread of this process may have made one at the same moment.
    if (made.length > 0) return made.length === 1 ? new VhostWorker(Number(made[0])) : undefined
  }
  return undefined
}
