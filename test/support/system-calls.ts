// How many system calls this thread makes, as the kernel's tracing counts them, but for those about memory and locks.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const TRACEFS = '/sys/kernel/tracing'
const EVENT = `${TRACEFS}/events/raw_syscalls/sys_enter`
/** V8's own, whenever it likes: futex, mmap, mprotect, munmap and madvise, as x86-64 numbers them. */
const OF_THE_RUNTIME = [202, 9, 10, 11, 28]
/** A histogram of system calls by thread: Documentation/trace/histogram.rst. */
const HISTOGRAM = `hist:keys=common_pid if ${OF_THE_RUNTIME.map((id) => `id != ${id}`).join(' && ')}`

function countSoFar(): number {
  const line = new RegExp(`common_pid: +${process.pid} } hitcount: +(\\d+)`)
  return Number(line.exec(readFileSync(`${EVENT}/hist`, 'utf8'))?.[1] ?? 0)
}

/** Counts the system calls of this process's main thread. */
export class SystemCalls {
  readonly #own: number

  constructor() {
    if (!existsSync(EVENT)) {
      mkdirSync(TRACEFS, { recursive: true })
      spawnSync('mount', ['-t', 'tracefs', 'tracefs', TRACEFS], { stdio: 'inherit' })
    }
    writeFileSync(`${EVENT}/trigger`, HISTOGRAM)
    // Reading the count takes some itself.
    countSoFar()
    const before = countSoFar()
    this.#own = countSoFar() - before
  }

  async of(body: () => unknown): Promise<number> {
    const before = countSoFar()
    await body()
    return countSoFar() - before - this.#own
  }

  [Symbol.dispose](): void {
    writeFileSync(`${EVENT}/trigger`, `!${HISTOGRAM}`)
  }
}
