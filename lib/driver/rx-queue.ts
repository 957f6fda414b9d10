// Receiving: buffers are posted to the device, which fills them.

import { binding } from '../binding/index.ts'
import type { Burst } from './burst.ts'
import { DriverQueue, type QueueOptions } from './queue.ts'

/** The driver's end of a receive queue. */
export class RxQueue extends DriverQueue {
  constructor(options: QueueOptions) {
    super(options, true)
    try {
      this.#post()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /**
   * Takes received packets, as many as the burst holds, and tops the ring up with free buffers. The buffers are the
   * caller's until `releaseBurst`. Never waits.
   * @returns the number of packets, also in `burst.packets`.
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where the device broke the rules, or the burst is too small for a packet
   */
  receive(burst: Burst): number {
    burst.clear()
    const packets = this.ringCall((ring) => binding().ringReceive(ring, burst.segments, burst.offsets, burst.lengths))
    burst.packets = packets
    for (let p = 0; p < packets; p++) burst.segmentCount += burst.segments[p] as number
    if (packets > 0) {
      this.#post()
      this.taken()
    }
    return packets
  }

  override release(offsets: Uint32Array, count: number): void {
    super.release(offsets, count)
    this.#post()
  }

  /** Resolves when a packet is there, or was and another caller took it. @throws {StateError} `ERR_CLOSED` */
  readable(signal?: AbortSignal): Promise<void> {
    return this.wait(0, signal)
  }

  #post(): void {
    this.ringCall((ring) => binding().ringPost(ring))
  }
}
