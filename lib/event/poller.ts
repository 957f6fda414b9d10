// Readiness of file descriptors as callbacks: one epoll thread per JavaScript thread, running while anything is watched.

import { binding, type FdHandle, type NativePoller } from '../binding/index.ts'

interface Watched {
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

class Poller {
  #native: NativePoller | undefined
  #nextId = 1
  readonly #watched = new Map<number, Watched>()
  #keepingAlive = 0

  watch(handle: FdHandle, callback: () => void, { keepAlive = false }: WatchOptions = {}): Watch {
    this.#native ??= binding().pollerCreate((ids) => this.#dispatch(ids))
    const native = this.#native
    const id = this.#nextId++
    try {
      binding().pollerAdd(native, id, handle.native)
    } catch (error) {
      this.#closeIfIdle()
      throw error
    }
    this.#watched.set(id, { callback, keepAlive })
    if (keepAlive && this.#keepingAlive++ === 0) binding().pollerRef(native, true)
    return { stop: () => this.#stop(id) }
  }

  #dispatch(ids: number[]): void {
    for (const id of ids) {
      const watched = this.#watched.get(id)
      if (watched === undefined) continue
      try {
        watched.callback()
      } catch (error) {
        // An uncaught exception, as from any callback; but the other ids of this wake-up are called first.
        process.nextTick(() => {
          throw error
        })
      }
      if (this.#native !== undefined && this.#watched.has(id)) binding().pollerRearm(this.#native, id)
    }
  }

  #stop(id: number): void {
    const watched = this.#watched.get(id)
    if (watched === undefined || this.#native === undefined) return
    this.#watched.delete(id)
    binding().pollerRemove(this.#native, id)
    if (watched.keepAlive && --this.#keepingAlive === 0) binding().pollerRef(this.#native, false)
    this.#closeIfIdle()
  }

  #closeIfIdle(): void {
    if (this.#watched.size > 0 || this.#native === undefined) return
    binding().closePoller(this.#native)
    this.#native = undefined
  }
}

const poller = new Poller()

/**
 * Calls back on this thread whenever the fd is readable, again and again until it is read or the watch stopped.
 * Stop the watch before closing the handle.
 * @throws {SystemCallError} where the fd cannot be polled.
 */
export function watchReadable(handle: FdHandle, callback: () => void, options?: WatchOptions): Watch {
  return poller.watch(handle, callback, options)
}
