// Frames as Buffers, over one queue pair of a driver.

import { VIRTIO_NET_HDR_SIZE } from '../abi/virtio-net.ts'
import { InvalidOptionError, StateError } from '../errors.ts'
import { Breather } from './breather.ts'
import { Burst } from './burst.ts'
import { Driver } from './driver.ts'
import type { Frame, ReceivedFrame } from './frame.ts'
import { FrameReader } from './frame-reader.ts'
import { FrameSender } from './frame-sender.ts'
import { GuestNic } from './guest-nic.ts'
import { NetHeader } from './net-header.ts'
import type { RxQueue } from './rx-queue.ts'
import type { TxQueue } from './tx-queue.ts'

/** One or many frames; bytes alone ask the device for nothing. */
type Sendable = Frame | Uint8Array | readonly (Frame | Uint8Array)[]

/**
 * Frames in and out of a queue pair as Buffers. They are copied, so that the ring's buffers go back at once and a large
 * frame may span several; who wants no copy works with a {@link Burst}. Frames are sent in the order of the calls and
 * received in the order they came; nothing is dropped here.
 *
 * Closing it leaves the driver as it is, and in the ring the frames that nobody took. Closing the driver first is found
 * by the next operation, and by everyone who waits: `ERR_CLOSED`.
 */
export class FramePort implements AsyncIterable<ReceivedFrame> {
  readonly #rx: RxQueue
  readonly #tx: TxQueue
  readonly #received: Burst
  readonly #sender: FrameSender
  readonly #breather = new Breather()
  readonly #closing = new AbortController()

  /**
   * @param pair index of the queue pair. Default 0.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   */
  constructor(driver: Driver | GuestNic, pair = 0) {
    if (!(driver instanceof Driver || driver instanceof GuestNic)) {
      throw new InvalidOptionError('ERR_OPTION_TYPE', 'driver', 'must be a Driver or a GuestNic')
    }
    const found = driver.pairs[pair]
    if (found === undefined) {
      const problem = `must be in 0..${driver.pairs.length - 1}, not ${pair}`
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'pair', problem)
    }
    this.#rx = found.rx
    this.#tx = found.tx
    // Whatever the device does, a packet has no more buffers than the ring.
    this.#received = new Burst(1, found.rx.layout.num)
    this.#sender = new FrameSender({
      tx: found.tx,
      features: driver.features,
      mtu: driver instanceof GuestNic ? driver.config.mtu : undefined,
      closing: this.#closing.signal,
    })
  }

  get closed(): boolean {
    return this.#closing.signal.aborted
  }

  /**
   * Puts as many of the frames on the ring, from the front, as have room there; none while others wait in `send`. Never
   * waits. All are checked before any is sent, and copied when it returns. A header that was received may be sent as it
   * is.
   * @returns how many.
   * @throws {InvalidOptionError} `ERR_OPTION_*` where one is no frame, or does not fit into the ring
   * @throws {NetHeaderError} `ERR_HEADER_*` where a header asks for what was not agreed on or contradicts its frame
   * @throws {StateError} `ERR_CLOSED`
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  offer(frames: Sendable): number {
    return this.#sender.offer(this.#check(frames))
  }

  /**
   * Sends frames, and waits for room where the ring is full. Resolves when the last is on the ring; leave the bytes alone
   * until then.
   *
   * Rejects with what {@link offer} throws, and nothing was sent. While it waits it rejects with the signal's reason, or
   * with `ERR_CLOSED` when the port or the driver is closed, and the frames that had room were sent.
   */
  async send(frames: Sendable, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    signal?.throwIfAborted()
    await this.#sender.send(this.#check(frames), signal)
    await this.#breather.breathe()
  }

  /** Resolves when the device has returned everything on the ring; closing the port does not end that. */
  drained({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#tx.drained(signal)
  }

  /**
   * Takes the next frame, if there is one. Never waits.
   * @throws {StateError} `ERR_CLOSED`
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where the device broke the rules
   */
  receive(): ReceivedFrame | undefined {
    this.#checkOpen()
    if (this.#rx.receive(this.#received) === 0) return undefined
    const frame = copyOut(this.#rx.pool, this.#received)
    this.#rx.releaseBurst(this.#received)
    return frame
  }

  /** Resolves when a frame is there, or was and another reader took it. Rejects as {@link send} does. */
  async readable({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const closing = this.#closing.signal
    await this.#rx.readable(signal === undefined ? closing : AbortSignal.any([signal, closing]))
  }

  /** Received frames, until the port is closed or the signal aborted. */
  frames({ signal }: { signal?: AbortSignal } = {}): FrameReader {
    const source = {
      receive: () => this.receive(),
      readable: (until: AbortSignal) => this.#rx.readable(until),
      closing: this.#closing.signal,
    }
    return new FrameReader(source, signal)
  }

  [Symbol.asyncIterator](): FrameReader {
    return this.frames()
  }

  /** Ends all readers, and rejects whoever waits for room. The driver goes on. Idempotent. */
  close(): void {
    this.#closing.abort(closedError())
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #check(frames: Sendable): Frame[] {
    this.#checkOpen()
    const list = Array.isArray(frames) ? (frames as readonly (Frame | Uint8Array)[]) : [frames as Frame | Uint8Array]
    return list.map((frame) => this.#sender.check(frame))
  }

  #checkOpen(): void {
    if (this.closed) throw closedError()
  }
}

function closedError(): StateError {
  return new StateError('ERR_CLOSED', 'the port was closed')
}

/** The packet of a burst that has one, its buffers joined. */
function copyOut(pool: Uint8Array, { offsets, lengths, segmentCount }: Burst): ReceivedFrame {
  const header = new NetHeader().read(pool, offsets[0] as number)
  // Without MRG_RXBUF, vhost up to Linux 6.12 leaves there what was there (drivers/vhost/net.c handle_rx).
  header.num_buffers = segmentCount
  let size = -VIRTIO_NET_HDR_SIZE
  for (let segment = 0; segment < segmentCount; segment++) size += lengths[segment] as number
  const bytes = Buffer.allocUnsafe(size)
  for (let segment = 0, at = 0; segment < segmentCount; segment++) {
    const space = segment === 0 ? VIRTIO_NET_HDR_SIZE : 0
    const offset = offsets[segment] as number
    const length = lengths[segment] as number
    bytes.set(pool.subarray(offset + space, offset + length), at)
    at += length - space
  }
  return { bytes, header }
}
