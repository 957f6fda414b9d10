// Rings on which work waits while nothing is done: one native thread looks at all of this JavaScript thread's.

import { vringSizes } from '../abi/virtio.ts'
import { binding, type NativeSampler, systemCall } from '../binding/index.ts'
import type { Watch } from '../event/index.ts'
import type { NativeMemory } from '../memory/index.ts'
import type { VhostWorker } from './vhost-worker.ts'

/** Where a ring lies in guest memory. */
export interface WatchedRing {
  memory: NativeMemory
  num: number
  avail: number
  used: number
  /** Who serves it. */
  worker: VhostWorker
}

/** `idx` of either ring, behind `flags` (virtio 1.x section 2.7.6). */
const IDX = 2

class Progress {
  #native: NativeSampler | undefined
  #nextId = 1
  readonly #watched = new Map<number, (cpuMs: number) => void>()

  watch({ memory, num, avail, used, worker }: WatchedRing, stalled: (cpuMs: number) => void): Watch {
    const sizes = vringSizes(num)
    const availAt = memory.locate(avail, sizes.avail)
    const usedAt = memory.locate(used, sizes.used)
    const subject = `vhost worker ${worker.tid}`
    this.#native ??= systemCall(() => binding().samplerCreate((id, cpuNs) => this.#suspect(id, cpuNs)), { subject })
    const native = this.#native
    const id = this.#nextId++
    const watch = () =>
      binding().samplerWatch(
        native,
        id,
        worker.tid,
        availAt.mapping,
        availAt.offset + IDX,
        usedAt.mapping,
        usedAt.offset + IDX,
      )
    try {
      systemCall(watch, { subject })
    } catch (error) {
      this.#closeIfIdle()
      throw error
    }
    this.#watched.set(id, stalled)
    return { stop: () => this.#stop(id) }
  }

  #suspect(id: number, cpuNs: number): void {
    this.#watched.get(id)?.(cpuNs / 1e6)
  }

  #stop(id: number): void {
    if (!this.#watched.delete(id) || this.#native === undefined) return
    binding().samplerForget(this.#native, id)
    this.#closeIfIdle()
  }

  #closeIfIdle(): void {
    if (this.#watched.size > 0 || this.#native === undefined) return
    binding().closeSampler(this.#native)
    this.#native = undefined
  }
}

const progress = new Progress()

/**
 * Calls back, with the milliseconds for which the worker ran meanwhile, where the ring's used index stands still although
 * buffers are available: again and again while the worker runs for 200 ms and more, once after a second in which it slept.
 * The clock of a machine that is short of time says little, hence the worker's own. Stop it before the memory is closed.
 * @throws {SystemCallError} `ENOENT` where the worker has ended, `EMFILE`
 */
export function watchProgress(ring: WatchedRing, stalled: (cpuMs: number) => void): Watch {
  return progress.watch(ring, stalled)
}
