// Sending: packets are made available to the device, which returns their buffers.

import { binding } from '../binding/index.ts'
import { StateError } from '../errors.ts'
import type { Burst } from './burst.ts'
import { type Coalescing, DriverQueue, type QueueOptions, type RecycleOptions } from './queue.ts'
import { ringError } from './ring-error.ts'

/** The driver's end of a transmit queue. */
export class TxQueue extends DriverQueue {
  constructor(options: QueueOptions) {
    super(options, false)
  }

  /**
   * Takes up to `count` free buffers, after reclaiming those the device has returned. They are the caller's until sent or
   * released.
   * @returns the number taken; their offsets are at the front of `offsets`.
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  allocate(offsets: Uint32Array, count = offsets.length): number {
    if (this.awaited) this.reclaim()
    const { ring } = this
    try {
      return binding().ringAllocate(ring, offsets, count)
    } catch (error) {
      throw ringError(this.name, error)
    }
  }

  /**
   * Fills the burst with packets of one buffer each, all of `length` bytes: as many as it holds and the ring has room
   * for, after reclaiming what the device has returned. What is written to the buffers, and to `burst.lengths`, is up to
   * the caller, whose they are until sent or released.
   * @param length bytes with virtio header.
   * @returns the number of packets, also in `burst.packets`.
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  prepare(burst: Burst, length: number): number {
    if (this.awaited) this.reclaim()
    const { ring } = this
    try {
      return binding().ringPrepare(ring, burst.words, length)
    } catch (error) {
      throw ringError(this.name, error)
    }
  }

  /**
   * Makes the burst's packets available, in order, and kicks the device where it wants that. Never waits and drops
   * nothing: packets that found the ring full are still the caller's, and the burst is left as it was.
   * @returns the number of packets accepted.
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where a segment up to the ring's end is not the caller's; nothing was sent
   * then
   */
  send(burst: Burst): number {
    const accepted = this.#send(burst, 0, 0)
    // Descriptors may have come back unnoticed.
    if (accepted === burst.packets || this.reclaim() === 0) return accepted
    let segment = 0
    for (let p = 0; p < accepted; p++) segment += burst.segments[p] as number
    return accepted + this.#send(burst, accepted, segment)
  }

  #send({ words }: Burst, firstPacket: number, firstSegment: number): number {
    const { ring } = this
    try {
      return binding().ringSend(ring, words, firstPacket, firstSegment)
    } catch (error) {
      throw ringError(this.name, error)
    }
  }

  /** Takes back what the device has sent. @returns the number of packets. @throws {QueueError} `ERR_QUEUE_BROKEN` */
  reclaim(): number {
    const { ring } = this
    try {
      const packets = binding().ringReclaim(ring)
      if (packets > 0 && this.awaited) this.taken()
      return packets
    } catch (error) {
      throw ringError(this.name, error)
    }
  }

  /**
   * Resolves when the device has returned something, so that a full ring has room, or has nothing left to return.
   * @throws {StateError} `ERR_CLOSED`, `ERR_QUEUE_BUSY`
   */
  async writable(signal?: AbortSignal, { frames = 1, milliseconds }: Coalescing = {}): Promise<void> {
    if (this.reclaim() > 0 || this.inFlight === 0) return
    const limit = milliseconds === undefined ? {} : { milliseconds }
    await this.wait({ frames: Math.min(frames, this.inFlight), ...limit }, signal)
  }

  /**
   * Sends what is in flight again and again from a native thread: a packet generator that leaves this thread alone.
   * Meanwhile the queue can do nothing else but count. What is in flight at the end comes back as usual.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {StateError} `ERR_QUEUE_EMPTY` where nothing is in flight, `ERR_QUEUE_BUSY`, `ERR_CLOSED`
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  async repeat(options: RecycleOptions): Promise<void> {
    if (this.inFlight === 0) {
      throw new StateError('ERR_QUEUE_EMPTY', `${this.name} has nothing in flight that could be sent again`, {
        hint: 'Send a burst first.',
      })
    }
    await this.recycle(options, true)
  }

  /** Resolves when the device has returned everything. */
  async drained(signal?: AbortSignal): Promise<void> {
    this.reclaim()
    for (let inFlight = this.inFlight; inFlight > 0; inFlight = this.inFlight) {
      await this.wait({ frames: inFlight }, signal)
      this.reclaim()
    }
  }
}
