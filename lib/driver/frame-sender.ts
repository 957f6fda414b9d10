// Frames into the buffers of a transmit queue, and whoever waits for room there.

import { VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_SIZE } from '../abi/virtio-net.ts'
import { InvalidOptionError, QueueError } from '../errors.ts'
import { Burst } from './burst.ts'
import { checkSendHeader } from './check-header.ts'
import type { Frame } from './frame.ts'
import { MAX_FRAME_SIZE } from './layout.ts'
import { NetHeader } from './net-header.ts'
import type { TxQueue } from './tx-queue.ts'

/** Frames put on the ring in one call. */
const BURST = 64

const ETHERNET_SIZE = 14

/** EtherTypes in front of a VLAN tag of four bytes. */
const VLAN_TYPES = [0x8100, 0x88a8]
const VLAN_TAG_SIZE = 4

/** In front of frames that ask for nothing. */
const NOTHING_ASKED = new NetHeader()

/** Frames whose sender waits for room. */
interface Waiting {
  frames: readonly Frame[]
  /** How many of them are on the ring. */
  sent: number
  settle: (error?: unknown) => void
}

export interface FrameSenderOptions {
  tx: TxQueue
  /** Those agreed on. */
  features: bigint
  /** What the device takes at most, without Ethernet header, of a frame that it is not to cut; where it says so. */
  mtu: number | undefined
  /** Rejects whoever waits, with its reason. */
  closing: AbortSignal
}

/** Checks frames, cuts them into buffers, and keeps who waits in line. */
export class FrameSender {
  readonly #tx: TxQueue
  readonly #features: bigint
  readonly #mtu: number | undefined
  readonly #burst: Burst
  readonly #offsets: Uint32Array
  readonly #closing: AbortSignal
  #line: Waiting[] = []
  #serving = false

  constructor({ tx, features, mtu, closing }: FrameSenderOptions) {
    this.#tx = tx
    this.#features = features
    this.#mtu = mtu
    this.#burst = new Burst(BURST, Math.max(BURST, tx.layout.maxSegments))
    this.#offsets = new Uint32Array(this.#burst.offsets.length)
    this.#closing = closing
  }

  /**
   * The frame with a header of its own, fit to be sent.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   * @throws {NetHeaderError} `ERR_HEADER_FEATURE`, `ERR_HEADER_FRAME`
   */
  check(frame: Frame | Uint8Array): Frame {
    const { bytes, header }: Partial<Frame> = frame instanceof Uint8Array ? { bytes: frame } : Object(frame)
    if (!(bytes instanceof Uint8Array)) {
      throw new InvalidOptionError('ERR_OPTION_TYPE', 'frame', 'must be a Uint8Array, or an object with one as `bytes`')
    }
    this.#checkSize(bytes.length)
    if (!(header instanceof NetHeader) || header.gso === 0) this.#checkMtu(bytes)
    if (header === undefined) return { bytes }
    if (!(header instanceof NetHeader)) {
      throw new InvalidOptionError('ERR_OPTION_TYPE', 'frame.header', 'must be a NetHeader')
    }
    const sent = new NetHeader().copy(header)
    // Of a received header, what is only of receiving.
    sent.flags &= ~VIRTIO_NET_HDR_F.VIRTIO_NET_HDR_F_DATA_VALID
    sent.num_buffers = 0
    checkSendHeader(sent, this.#features, bytes)
    return { bytes, header: sent }
  }

  #checkSize(size: number): void {
    const { maxSegments, bufferSize } = this.#tx.layout
    const most = Math.min(MAX_FRAME_SIZE, maxSegments * bufferSize - VIRTIO_NET_HDR_SIZE)
    if (size >= ETHERNET_SIZE && size <= most) return
    throw new InvalidOptionError(
      'ERR_OPTION_RANGE',
      'frame',
      `must have ${ETHERNET_SIZE}..${most} bytes, not ${size}`,
      {
        hint: 'That is from the Ethernet header to the end; the whole ring, queueSize times bufferSize, holds no more.',
      },
    )
  }

  #checkMtu(bytes: Uint8Array): void {
    if (this.#mtu === undefined) return
    const tag = VLAN_TYPES.includes(bytes[12]! * 256 + bytes[13]!) ? VLAN_TAG_SIZE : 0
    const most = ETHERNET_SIZE + tag + this.#mtu
    if (bytes.length <= most) return
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'frame', `must have at most ${most} bytes, not ${bytes.length}`, {
      hint: `The device has an MTU of ${this.#mtu}. What it is to cut may be larger: NetHeader.offloadSegmentation().`,
    })
  }

  /** Puts checked frames on the ring, from the front, while there is room and nobody waits. Returns how many. */
  offer(frames: readonly Frame[]): number {
    return this.#line.length > 0 ? 0 : this.#put(frames, 0)
  }

  /** Resolves when all are on the ring, in the order of the calls. */
  async send(frames: readonly Frame[], signal?: AbortSignal): Promise<void> {
    const sent = this.offer(frames)
    if (sent < frames.length) await this.#wait(frames, sent, signal)
  }

  /** Returns how many frames, from `first` on, found room. */
  #put(frames: readonly Frame[], first: number): number {
    for (let next = first; next < frames.length; ) {
      this.#stage(frames, next)
      const { packets } = this.#burst
      const sent = packets === 0 ? 0 : this.#tx.send(this.#burst)
      next += sent
      if (sent < packets) this.#unstage(sent)
      if (sent === 0 || sent < packets) return next - first
    }
    return frames.length - first
  }

  #segmentsOf({ bytes }: Frame): number {
    return Math.ceil((VIRTIO_NET_HDR_SIZE + bytes.length) / this.#tx.layout.bufferSize)
  }

  /** Copies the next frames into buffers of the pool: as many as a burst holds and the pool has buffers for. */
  #stage(frames: readonly Frame[], first: number): void {
    const burst = this.#burst
    const last = Math.min(frames.length, first + BURST)
    let wanted = 0
    for (let next = first; next < last; next++) wanted += this.#segmentsOf(frames[next] as Frame)
    const buffers = this.#tx.allocate(this.#offsets.subarray(0, wanted))
    burst.clear()
    for (let next = first; next < last; next++) {
      const frame = frames[next] as Frame
      const segments = this.#segmentsOf(frame)
      if (burst.segmentCount + segments > buffers) break
      this.#copyIn(frame, segments)
    }
    const left = buffers - burst.segmentCount
    if (left > 0) this.#tx.release(this.#offsets.subarray(burst.segmentCount, buffers), left)
  }

  #copyIn({ bytes, header = NOTHING_ASKED }: Frame, segments: number): void {
    const { pool, layout } = this.#tx
    const burst = this.#burst
    burst.segments[burst.packets++] = segments
    for (let segment = 0, from = 0; segment < segments; segment++) {
      const offset = this.#offsets[burst.segmentCount] as number
      const space = segment === 0 ? VIRTIO_NET_HDR_SIZE : 0
      if (segment === 0) header.write(pool, offset)
      const part = bytes.subarray(from, from + layout.bufferSize - space)
      pool.set(part, offset + space)
      from += part.length
      burst.offsets[burst.segmentCount] = offset
      burst.lengths[burst.segmentCount++] = space + part.length
    }
  }

  /** Gives back the buffers of staged frames, from the one at `sent` on. */
  #unstage(sent: number): void {
    const { segments, offsets, segmentCount } = this.#burst
    let used = 0
    for (let p = 0; p < sent; p++) used += segments[p] as number
    this.#tx.release(offsets.subarray(used), segmentCount - used)
  }

  #wait(frames: readonly Frame[], sent: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      signal?.throwIfAborted()
      const abort = () => {
        this.#line = this.#line.filter((other) => other !== waiting)
        waiting.settle(signal?.reason)
      }
      const settle = (error?: unknown) => {
        signal?.removeEventListener('abort', abort)
        if (error === undefined) resolve()
        else reject(error)
      }
      const waiting: Waiting = { frames, sent, settle }
      signal?.addEventListener('abort', abort)
      this.#line.push(waiting)
      if (!this.#serving) void this.#serve()
    })
  }

  /** Sends on behalf of those in line, until there is nobody. */
  async #serve(): Promise<void> {
    this.#serving = true
    try {
      while (this.#line.length > 0) {
        await this.#tx.writable(this.#closing)
        this.#serveFront()
      }
    } catch (error) {
      const line = this.#line
      this.#line = []
      for (const waiting of line) waiting.settle(error)
    } finally {
      this.#serving = false
    }
  }

  #serveFront(): void {
    for (let front = this.#line[0]; front !== undefined; front = this.#line[0]) {
      const sent = this.#put(front.frames, front.sent)
      front.sent += sent
      if (front.sent < front.frames.length) {
        if (sent === 0 && this.#tx.inFlight === 0) throw this.#starved()
        return
      }
      this.#line.shift()
      front.settle()
    }
  }

  // Waiting would be for ever: the device has nothing that it could return.
  #starved(): QueueError {
    const problem = `${this.#tx.name}: there is no free buffer, and the device has none either`
    return new QueueError('ERR_QUEUE_BROKEN', problem, {
      hint: 'Send or release the buffers that were allocated of this queue elsewhere.',
    })
  }
}
