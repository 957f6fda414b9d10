// Readiness of file descriptors as callbacks: one epoll thread per JavaScript thread, running while anything is watched.

import { binding, type FdHandle, type Hints, type NativePoller, systemCall } from '../binding/index.ts'

interface Watched {
  /** What is watched, for messages. */
  subject: string
  callback: () => void
  keepAlive: boolean
}

/** A running watch. */
export interface Watch {
  /** Stops it; the callback is not called again, not even for what was ready already. Idempotent. */
  stop(): void
}

export interface WatchOptions {
  /** Whether the watch keeps the process alive. Default false. */
  keepAlive?: boolean
}

const hints: Hints = {
  EMFILE: 'Raise the limit of open files (ulimit -n).',
  EPERM: 'The fd is of a kind that cannot be polled, such as a regular file.',
  EBADF: 'Stop the watch before closing what it watches.',
}

/** What it throws is an uncaught exception, as from any callback; but the other ids of this wake-up are called first. */
function attempt(callback: () => void): void {
  try {
    callback()
  } catch (error) {
    process.nextTick(() => {
      throw error
    })
  }
}

class Poller {
  #native: NativePoller | undefined
  #nextId = 1
  readonly #watched = new Map<number, Watched>()
  #keepingAlive = 0

  watch(handle: FdHandle, callback: () => void, { keepAlive = false }: WatchOptions = {}): Watch {
    const subject = handle.label
    this.#native ??= systemCall(() => binding().pollerCreate((ids) => this.#dispatch(ids)), { subject, hints })
    const native = this.#native
    const id = this.#nextId++
    try {
      systemCall(() => binding().pollerAdd(native, id, handle.native), { subject, hints })
    } catch (error) {
      this.#closeIfIdle()
      throw error
    }
    this.#watched.set(id, { subject, callback, keepAlive })
    if (keepAlive && this.#keepingAlive++ === 0) binding().pollerRef(native, true)
    return { stop: () => this.#stop(id) }
  }

  #dispatch(ids: number[]): void {
    for (const id of ids) {
      const watched = this.#watched.get(id)
      if (watched === undefined) continue
      attempt(watched.callback)
      const native = this.#native
      if (native === undefined || !this.#watched.has(id)) continue
      const { subject } = watched
      attempt(() => systemCall(() => binding().pollerRearm(native, id), { subject, hints }))
    }
  }

  #stop(id: number): void {
    const watched = this.#watched.get(id)
    if (watched === undefined || this.#native === undefined) return
    const native = this.#native
    this.#watched.delete(id)
    try {
      systemCall(() => binding().pollerRemove(native, id), { subject: watched.subject, hints })
    } finally {
      if (watched.keepAlive && --this.#keepingAlive === 0) binding().pollerRef(native, false)
      this.#closeIfIdle()
    }
  }

  #closeIfIdle(): void {
    const native = this.#native
    if (this.#watched.size > 0 || native === undefined) return
    this.#native = undefined
    systemCall(() => binding().closePoller(native), { subject: 'the poller' })
  }
}

const poller = new Poller()

/**
 * Calls back on this thread whenever the fd is readable, again and again until it is read or the watch stopped.
 * Stop the watch before closing the handle.
 * @throws {SystemCallError} `EPERM` where the fd cannot be polled, `EMFILE`
 * @throws {StateError} `ERR_CLOSED`
 */
export function watchReadable(handle: FdHandle, callback: () => void, options?: WatchOptions): Watch {
  return poller.watch(handle, callback, options)
}
