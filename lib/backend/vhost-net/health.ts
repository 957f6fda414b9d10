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
  /** Whether the worker did anything on its other ring since this was asked last. */
  othersMoved: () => boolean
  /** Whether the tap is there no more. */
  gone: () => boolean
  found: (finding: RingFinding | 'gone') => void
}

interface Running {
  vring: Vring
  features: bigint
  /** The worker ran, and did nothing on either ring, when it was looked at last. */
  idle: boolean
  /** That it stalls was said. */
  told: boolean
}

/** A worker that ran for so long meanwhile did not wait for its turn. Milliseconds. */
const SPINNING_MS = 200

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
    this.#watch = watched ? watchProgress(worker, (cpuMs) => this.#stalled(cpuMs)) : undefined
  }

  /** The worker serves it from now on. */
  begin(vring: Vring, features: bigint): void {
    this.#running = { vring, features, idle: false, told: false }
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
    found({ errors, ...(this.#diagnose() ?? { cause: 'unknown', message }) })
  }

  #stalled(cpuMs: number): void {
    if (this.#running === undefined) return
    const { ring, found, othersMoved } = this.#options
    const wrong = this.#diagnose()
    const idle = !othersMoved() && cpuMs >= SPINNING_MS
    // A tap with a full send buffer makes a good frame wait, while the worker has its time for what it receives.
    const spins = idle && this.#running.idle
    this.#running.idle = idle
    if (this.#running.told || (wrong === undefined && !spins)) return
    this.#running.told = true
    const message = `the worker runs, and neither sends what waits on the ${ring} ring nor does anything else`
    found({ errors: 0, ...(wrong ?? { cause: 'no-progress', message }) })
  }

  #diagnose(): Diagnosis | undefined {
    const { ring, memory, base } = this.#options
    const { vring, features } = this.#running!
    return diagnose({ ring, memory, vring, features, base: base() })
  }
}
