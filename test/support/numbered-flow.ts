// One direction of a queue pair in a test: frames that carry their number, and which of them have come.

import assert from 'node:assert/strict'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, type RxQueue, type TxQueue } from '../../lib/driver/index.ts'
import { checkFrame, type FlowFrame, writeFrame, writeVirtioHeader } from './frames.ts'

/** No more go in one call. */
export const BURST = 8

export class NumberedFlow {
  readonly #frame: FlowFrame
  readonly #name: string
  readonly #seen = new Set<number>()
  readonly #lastOn = new Map<number, number>()
  /** That a ring has taken. */
  sent = 0
  /** One more than the highest number that has come. */
  reached = 0

  constructor(source: number, pair: number) {
    this.#frame = { kind: 'udp', source, pair, size: 80 }
    this.#name = `pair ${pair}, ${source === 0 ? 'from' : 'to'} the guest`
  }

  get received(): number {
    return this.#seen.size
  }

  get lost(): number {
    return this.sent - this.received
  }

  /** Offers the next frames to the ring. @returns how many it took */
  send(tx: TxQueue, count: number): number {
    const offsets = new Uint32Array(Math.min(count, BURST))
    const buffers = tx.allocate(offsets)
    const pool = Buffer.from(tx.pool.buffer, tx.pool.byteOffset, tx.pool.byteLength)
    const burst = new Burst(BURST)
    for (const [i, offset] of offsets.subarray(0, buffers).entries()) {
      writeVirtioHeader(pool, offset, this.#frame.kind)
      const size = writeFrame(pool, offset + VIRTIO_NET_HDR_SIZE, this.#frame, this.sent + i)
      burst.add(offset, VIRTIO_NET_HDR_SIZE + size)
    }
    const taken = buffers === 0 ? 0 : tx.send(burst)
    tx.release(offsets.subarray(taken), buffers - taken)
    this.sent += taken
    return taken
  }

  /** A frame has come: not one before, and on each ring in order. */
  arrived(sequence: number, ring: number): void {
    const what = `frame ${sequence} of ${this.#name}`
    assert.ok(sequence < this.sent, `${what} was never sent`)
    assert.ok(!this.#seen.has(sequence), `${what} came twice`)
    const last = this.#lastOn.get(ring) ?? -1
    assert.ok(sequence > last, `${what} came on ring ${ring} behind ${last}`)
    this.#lastOn.set(ring, sequence)
    this.#seen.add(sequence)
    this.reached = Math.max(this.reached, sequence + 1)
  }
}

/** Takes what has come on a ring: every byte of it is as it was sent. @returns how many of each pair */
export function receiveNumbered(rx: RxQueue, ring: number, source: number, flows: readonly NumberedFlow[]): number[] {
  const burst = new Burst(BURST)
  const counts = flows.map(() => 0)
  rx.receive(burst)
  const pool = Buffer.from(rx.pool.buffer, rx.pool.byteOffset, rx.pool.byteLength)
  for (let i = 0; i < burst.packets; i++) {
    const offset = burst.offsets[i]!
    const frame = checkFrame(pool.subarray(offset, offset + burst.lengths[i]!))
    assert.equal(frame.source, source)
    flows[frame.pair]!.arrived(frame.sequence, ring)
    counts[frame.pair]!++
  }
  rx.releaseBurst(burst)
  return counts
}
