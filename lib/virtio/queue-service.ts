// Serves a virtqueue in this process: from a kick to the buffers given back, in turns that leave others their time.

import { type EventFd, type Watch, watchReadable } from '../event/index.ts'
import type { DescriptorChain } from './chain.ts'
import { MAX_DESCRIPTORS } from './descriptors.ts'
import type { SplitRing } from './split-ring.ts'

/** Buffers in a turn. */
export const MAX_BUFFERS = 64
/** Milliseconds after which a turn begins no buffer: what one asks for may take long, and a guest chooses what it asks for. */
export const MAX_TURN_MS = 10

export interface QueueServiceOptions {
  ring: SplitRing
  kick: EventFd
  call: EventFd
  /** Does what a buffer asks for, and has written its answer when it returns. */
  serve: (chain: DescriptorChain) => void
  /** The queue cannot go on: what `serve` or the ring threw. The service has stopped by then. */
  failed: (error: unknown) => void
}

/**
 * A turn handles at most {@link MAX_BUFFERS} buffers, and begins none behind {@link MAX_DESCRIPTORS} descriptors or after
 * {@link MAX_TURN_MS}; what is left continues from the event loop. So a driver that never pauses holds up nobody else for
 * longer than that and one buffer.
 */
export class QueueService {
  readonly #options: QueueServiceOptions
  readonly #watch: Watch
  #next: NodeJS.Immediate | undefined
  #stopped = false
  #paused = false

  /** Begins with what is in the ring already, not with the first kick. @throws {SystemCallError} `EMFILE` */
  constructor(options: QueueServiceOptions) {
    this.#options = options
    this.#watch = watchReadable(options.kick, () => {
      options.kick.read()
      this.#schedule()
    })
    this.#schedule()
  }

  /** Once it returns, neither ring nor buffers are touched any more, and nothing is signalled. Idempotent. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.pause()
    this.#watch.stop()
  }

  /** Until `resume`, neither ring nor buffers are touched; what comes waits in the ring. Idempotent. */
  pause(): void {
    this.#paused = true
    clearImmediate(this.#next)
    this.#next = undefined
  }

  /** Goes on with what is in the ring. Idempotent. */
  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#schedule()
  }

  #schedule(): void {
    if (this.#stopped || this.#paused) return
    this.#next ??= setImmediate(() => {
      this.#next = undefined
      this.#turn()
    })
  }

  #turn(): void {
    const { ring, call, failed } = this.#options
    try {
      ring.refuseKicks()
      try {
        const more = this.#work()
        if (!this.#stopped && (more || ring.wantKicks())) this.#schedule()
      } finally {
        if (!this.#stopped && ring.interruptWanted()) call.signal()
      }
    } catch (error) {
      this.stop()
      failed(error)
    }
  }

  /** Whether the turn ended with buffers perhaps left. */
  #work(): boolean {
    const { ring, serve } = this.#options
    const end = performance.now() + MAX_TURN_MS
    let descriptors = 0
    for (let buffers = 0; buffers < MAX_BUFFERS && descriptors < MAX_DESCRIPTORS && !this.#paused; buffers++) {
      const chain = ring.take()
      if (chain === undefined) return false
      serve(chain)
      // Serving may have stopped us: a command that resets, or a fault that another queue found.
      if (this.#stopped) return false
      ring.giveBack(chain)
      descriptors += chain.descriptors
      if (performance.now() >= end) return true
    }
    return true
  }
}
