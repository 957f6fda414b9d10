// Receiving: buffers are posted to the device, which fills them.

import { binding } from '../binding/index.ts'
import type { Burst } from './burst.ts'
import { type Coalescing, DriverQueue, type QueueOptions, type RecycleOptions } from './queue.ts'
import { ringError } from './ring-error.ts'

/** The driver's end of a receive queue. */
export class RxQueue extends DriverQueue {
  constructor(options: QueueOptions) {
    super(options, true)
    try {
      binding().ringPost(this.ring)
    } catch (error) {
      this.close()
      throw ringError(this.name, error)
    }
  }

  /**
   * Takes received packets, as many as the burst holds, and tops the ring up with free buffers. The buffers are the
   * caller's until `releaseBurst`. Never waits.
   * @returns the number of packets, also in `burst.packets`.
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where the device broke the rules, or the burst is too small for a packet
   */
  receive(burst: Burst): number {
    const { ring } = this
    burst.clear()
    try {
      const packets = binding().ringReceive(ring, burst.words)
      if (packets > 0 && this.awaited) this.taken()
      return packets
    } catch (error) {
      throw ringError(this.name, error)
    }
  }

  /**
   * Resolves when a packet is there, or was and another caller took it.
   * @param coalescing how many buffers are to be waited for, and how long.
   * @throws {StateError} `ERR_CLOSED`, `ERR_QUEUE_BUSY`
   */
  readable(signal?: AbortSignal, coalescing: Coalescing = {}): Promise<void> {
    return this.wait(coalescing, signal)
  }

  /**
   * Takes frames and posts their buffers again from a native thread: a sink that leaves this thread alone. Meanwhile the
   * queue can do nothing else but count.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {StateError} `ERR_QUEUE_BUSY`, `ERR_CLOSED`
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  async discard(options: RecycleOptions): Promise<void> {
    await this.recycle(options, false)
  }
}
