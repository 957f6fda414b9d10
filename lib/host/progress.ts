// Rings on which work waits while nothing is done: one native thread looks at all of this JavaScript thread's.

import { vringSizes } from '../abi/virtio.ts'
import { binding, type NativeSampler, systemCall } from '../binding/index.ts'
import type { NativeMemory } from '../memory/index.ts'
import type { VhostWorker } from './vhost-worker.ts'

/** Where a ring lies in guest memory. */
export interface WatchedRing {
  memory: NativeMemory
  num: number
  avail: number
  used: number
}

/** A ring that a worker serves, whether it runs now or not. */
export interface ProgressWatch {
  /** It runs. @throws {GuestMemoryError} `ERR_GPA_RANGE` */
  begin(ring: WatchedRing): void
  /** It does no more; without effect where it does not. */
  end(): void
  /** Idempotent. */
  close(): void
}

/** `idx` of either ring, behind `flags` (virtio 1.x section 2.7.6). */
const IDX = 2

class Progress {
  #native: NativeSampler | undefined
  #nextId = 1
  readonly #watched = new Map<number, () => void>()

  watch({ tid }: VhostWorker, stalled: () => void): ProgressWatch {
    const subject = `vhost worker ${tid}`
    this.#native ??= systemCall(() => binding().samplerCreate((id) => this.#watched.get(id)?.()), { subject })
    const native = this.#native
    const id = this.#nextId++
    try {
      systemCall(() => binding().samplerAdd(native, id, tid), { subject })
    } catch (error) {
      this.#closeIfIdle()
      throw error
    }
    this.#watched.set(id, stalled)
    return {
      begin: ({ memory, num, avail, used }) => {
        const sizes = vringSizes(num)
        const a = memory.locate(avail, sizes.avail)
        const u = memory.locate(used, sizes.used)
        binding().samplerBegin(native, id, a.mapping, a.offset + IDX, u.mapping, u.offset + IDX)
      },
      end: () => {
        if (this.#watched.has(id)) binding().samplerEnd(native, id)
      },
      close: () => this.#close(id),
    }
  }

  #close(id: number): void {
    if (!this.#watched.delete(id) || this.#native === undefined) return
    binding().samplerRemove(this.#native, id)
    this.#closeIfIdle()
  }

  #closeIfIdle(): void {
    const native = this.#native
    if (this.#watched.size > 0 || native === undefined) return
    this.#native = undefined
    systemCall(() => binding().closeSampler(native), { subject: 'the watch on rings' })
  }
}

const progress = new Progress()

/**
 * Watches a ring of this worker while it runs. Calls back where the used index stands still although buffers are available:
 * once the worker ran for 40 ms meanwhile, again whenever it ran for 200 ms more, and once after a second in which it slept.
 * The clock of a machine that is short of time says little, hence the worker's own.
 * @throws {SystemCallError} `ENOENT` where the worker has ended, `EMFILE`
 */
export function watchProgress(worker: VhostWorker, stalled: () => void): ProgressWatch {
  return progress.watch(worker, stalled)
}
