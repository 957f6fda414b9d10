// What the driver's side is on the tap's network: one host per queue pair, with a MAC and an IPv4 address of its own.

import { VIRTIO_NET_HDR_SIZE } from '../../abi/virtio-net.ts'
import { Burst, type RxQueue, type TxQueue } from '../../driver/index.ts'

/** Frames of one receive queue, by what they were. */
export interface ReceivedFrames {
  arp: number
  /** Echo replies to a request of ours. */
  echo: number
  /** What the kernel sends by itself (IPv6 router solicitations, multicast reports), and late replies. */
  other: number
}

/** Looks at an echo reply to this endpoint; false where it is to no request of the taker's. */
export type EchoTaker = (bytes: Buffer, at: number, length: number, receivedOn: Endpoint) => boolean

/** Its own address makes each endpoint a flow of its own, which the tap steers back to the queue it came from. */
export class Endpoint {
  readonly index: number
  readonly mac: Uint8Array
  /** IPv4, as a 32-bit number. */
  readonly address: number
  readonly tx: TxQueue
  readonly rx: RxQueue
  /** The receive pool as a Buffer, for `compare`. */
  readonly received: Buffer
  readonly counts: ReceivedFrames = { arp: 0, echo: 0, other: 0 }
  /** Who gets the echo replies to this endpoint now. */
  echoTaker: EchoTaker | undefined
  /** Who gets the MAC of an ARP reply to this endpoint. */
  arpTaker: ((sender: number, mac: Uint8Array) => void) | undefined
  /** For each transmit buffer, the template whose frame it holds: that need not be written again. */
  readonly #holds: (Uint8Array | undefined)[]

  constructor(index: number, mac: Uint8Array, address: number, { tx, rx }: { tx: TxQueue; rx: RxQueue }) {
    this.index = index
    this.mac = mac
    this.address = address
    this.tx = tx
    this.rx = rx
    this.received = Buffer.from(rx.pool.buffer, rx.pool.byteOffset, rx.pool.byteLength)
    this.#holds = new Array(tx.layout.bufferCount)
  }

  /** Writes a frame behind a virtio header of zeros, unless the buffer holds that very template; where it begins. */
  place(offset: number, template: Uint8Array): number {
    const { pool, layout } = this.tx
    const at = offset + VIRTIO_NET_HDR_SIZE
    const buffer = Math.floor(offset / layout.bufferSize)
    if (this.#holds[buffer] !== template) {
      pool.fill(0, offset, at)
      pool.set(template, at)
      this.#holds[buffer] = template
    }
    return at
  }

  /** Sends one frame; waits where buffers or descriptors are all taken. */
  async send(frame: Uint8Array, signal: AbortSignal): Promise<void> {
    const offsets = new Uint32Array(1)
    while (this.tx.allocate(offsets) === 0) await this.tx.writable(signal)
    const offset = offsets[0] as number
    this.place(offset, frame)
    const burst = new Burst(1)
    burst.add(offset, VIRTIO_NET_HDR_SIZE + frame.length)
    await this.sendAll(burst, signal)
  }

  /** Sends every packet of the burst, waiting for the device where the ring is full, and empties it. */
  async sendAll(burst: Burst, signal: AbortSignal): Promise<void> {
    for (;;) {
      const accepted = this.tx.send(burst)
      burst.offsets.copyWithin(0, accepted, burst.packets)
      burst.lengths.copyWithin(0, accepted, burst.packets)
      burst.packets -= accepted
      burst.segmentCount -= accepted
      if (burst.packets === 0) return
      try {
        await this.tx.writable(signal)
      } catch (error) {
        // A closed queue has taken its buffers along.
        if (!this.tx.closed) this.tx.releaseBurst(burst)
        throw error
      }
    }
  }
}
