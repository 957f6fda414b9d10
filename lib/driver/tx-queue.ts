// Sending: packets are made available to the device, which returns their buffers.

import { binding } from '../binding/index.ts'
import type { Burst } from './burst.ts'
import { DriverQueue, type QueueOptions } from './queue.ts'

/** The driver's end of a transmit queue. */
export class TxQueue extends DriverQueue {
  constructor(options: QueueOptions) {
    super(options, false)
  }

  /** Chains the device has not returned yet. */
  get inFlight(): number {
    const { available, used } = this.counters()
    return available - used
  }

  /**
   * Takes up to `offsets.length` free buffers, after reclaiming those the device has returned. They are the caller's
   * until sent or released.
   * @returns the number taken; their offsets are at the front of `offsets`.
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  allocate(offsets: Uint32Array): number {
    this.reclaim()
    return this.ringCall((ring) => binding().ringAllocate(ring, offsets))
  }

  /**
   * Makes the burst's packets available, in order, and kicks the device where it wants that. Never waits and drops
   * nothing: packets that found the ring full are still the caller's, and the burst is left as it was.
   * @returns the number of packets accepted.
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where a segment is not the caller's; nothing was sent then
   */
  send(burst: Burst): number {
    const { segments, offsets, lengths, packets } = burst
    const accepted = this.ringCall((ring) => binding().ringSend(ring, segments, offsets, lengths, packets))
    if (accepted === packets) return accepted
    // Descriptors may have come back unnoticed.
    return this.reclaim() > 0 ? accepted + this.#sendRest(burst, accepted) : accepted
  }

  #sendRest({ segments, offsets, lengths, packets }: Burst, accepted: number): number {
    let sent = 0
    for (let p = 0; p < accepted; p++) sent += segments[p] as number
    return this.ringCall((ring) =>
      binding().ringSend(
        ring,
        segments.subarray(accepted, packets),
        offsets.subarray(sent),
        lengths.subarray(sent),
        packets - accepted,
      ),
    )
  }

  /** Takes back what the device has sent. @returns the number of packets. @throws {QueueError} `ERR_QUEUE_BROKEN` */
  reclaim(): number {
    const packets = this.ringCall((ring) => binding().ringReclaim(ring))
    if (packets > 0) this.taken()
    return packets
  }

  /**
   * Resolves when the device has returned something, so that a full ring has room, or has nothing left to return.
   * @throws {StateError} `ERR_CLOSED`
   */
  async writable(signal?: AbortSignal): Promise<void> {
    if (this.reclaim() > 0 || this.inFlight === 0) return
    await this.wait(0, signal)
    this.reclaim()
  }

  /** Resolves when the device has returned everything. */
  async drained(signal?: AbortSignal): Promise<void> {
    this.reclaim()
    for (let inFlight = this.inFlight; inFlight > 0; inFlight = this.inFlight) {
      await this.wait(inFlight - 1, signal)
      this.reclaim()
    }
  }
}
