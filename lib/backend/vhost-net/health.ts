// Whether a ring that the kernel's worker serves can go on: the worker says so little that it has to be found out.

import { type ProgressWatch, watchProgress } from '../../host/progress.ts'
import type { VhostWorker } from '../../host/vhost-worker.ts'
import type { NativeMemory } from '../../memory/index.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { RingName } from '../net-backend.ts'
import { type Diagnosis, diagnose } from './diagnosis.ts'

/** What is wrong with a ring; `errors` are messages of the kernel. */
export interface RingFinding extends Diagnosis {
  errors: number
}

export interface RingHealthOptions {
  ring: RingName
  memory: NativeMemory
  /** Undefined where nobody knows which thread it is: then only what the kernel says is known. */
  worker: VhostWorker | undefined
  /** The available index that comes next. */
  base: () => number
  /** How many buffers the worker has returned on this ring, and on its other one; modulo 2¹⁶. */
  used: () => number
  othersUsed: () => number
  /** Whether the tap is there no more. */
  gone: () => boolean
  found: (finding: RingFinding | 'gone') => void
}

interface Running {
  vring: Vring
  features: bigint
  /** Where the worker stood when it was first seen to do nothing on either ring. */
  idle: { used: number; othersUsed: number; cpuMs: number } | undefined
  /** That it stalls was said. */
  told: boolean
}

/** A worker that ran for so long and did nothing on either ring did not wait for its turn. Milliseconds. */
const SPINNING_MS = 400

/**
 * A ring is looked at when the kernel counts an error on it, and, one to transmit on, when buffers wait there and nothing
 * is done: some of what a guest can write keeps the worker busy for ever without an error (drivers/vhost/net.c:
 * vhost_net_build_xdp puts the buffer back, and a tap can always be written to).
 */
export class RingHealth {
  readonly #options: RingHealthOptions
  readonly #watch: ProgressWatch | undefined
  #running: Running | undefined

  /** @throws {SystemCallError} `EMFILE` */
  constructor(options: RingHealthOptions) {
    const { ring, worker } = options
    this.#options = options
    const watched = ring === 'tx' && worker !== undefined
    this.#watch = watched ? watchProgress(worker, () => this.#stalled(worker)) : undefined
  }

  /** The worker serves it from now on. */
  begin(vring: Vring, features: bigint): void {
    this.#running = { vring, features, idle: undefined, told: false }
    this.#watch?.begin({ ...vring, memory: this.#options.memory })
  }

  /** It does no more. */
  end(): void {
    this.#watch?.end()
    this.#running = undefined
  }

  /** Idempotent. */
  close(): void {
    this.#watch?.close()
  }

  /** The kernel counted errors on it. */
  failed(errors: number): void {
    if (this.#running === undefined) return
    const { ring, gone, found } = this.#options
    if (gone()) {
      found('gone')
      return
    }
    const message = `the kernel cannot go on with the ${ring} ring, and nothing is wrong there now`
    found({ errors, ...(this.#diagnose(this.#options.base()) ?? { cause: 'unknown', message }) })
  }

  #stalled(worker: VhostWorker): void {
    const running = this.#running
    if (running === undefined || running.told) return
    const { ring, found } = this.#options
    const wrong = this.#examine()
    const spins = this.#spins(running, worker)
    if (wrong === undefined && !spins) return
    running.told = true
    const message = `the worker runs, and neither sends what waits on the ${ring} ring nor does anything else`
    found({ errors: 0, ...(wrong ?? { cause: 'no-progress', message }) })
  }

  /**
   * What is wrong with a ring whose worker may be at work. One that spins stands at the first buffer that it did not return:
   * that is looked at first, since asking the kernel means to wait for a lock that the worker takes again and again.
   */
  #examine(): Diagnosis | undefined {
    const { used, base } = this.#options
    const before = used()
    const wrong = this.#diagnose(before) ?? this.#diagnose(base())
    // What is returned meanwhile is the guest's again, who may write into it.
    return used() === before ? wrong : undefined
  }

  /** A tap with a full send buffer makes a good frame wait, while the worker has its time for what it receives. */
  #spins(running: Running, worker: VhostWorker): boolean {
    const { used, othersUsed } = this.#options
    const now = { used: used(), othersUsed: othersUsed(), cpuMs: worker.cpuTime() / 1e6 }
    const { idle } = running
    if (idle?.used === now.used && idle.othersUsed === now.othersUsed) return now.cpuMs - idle.cpuMs >= SPINNING_MS
    running.idle = now
    return false
  }

  #diagnose(base: number): Diagnosis | undefined {
    const { ring, memory } = this.#options
    const { vring, features } = this.#running!
    return diagnose({ ring, memory, vring, features, base })
  }
}
