// Frames both ways on every pair of a driver: echo requests to the host's kernel, which answers each on the pair that it
// came from. Who sends or receives sleeps until its queue is interrupted.

import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Endpoint } from '../../lib/cli/loop/endpoint.ts'
import { EchoTemplate, echoIdentifier, isEchoReply } from '../../lib/cli/loop/frames.ts'
import { Burst, type DriverPair } from '../../lib/driver/index.ts'

/** Requests that a pair makes available at once; the next follows when it was used, so that each takes an interrupt. */
const BURST = 1
const PAYLOAD_BYTES = 18

export interface EchoHost {
  readonly mac: Uint8Array
  /** IPv4 addresses as 32-bit numbers: the host's, and the first pair's, behind which the others' come. */
  readonly address: number
  readonly firstPair: number
}

export class EchoTraffic {
  /** By pair. */
  readonly endpoints: readonly Endpoint[]
  sent = 0
  /** Replies that are, byte for byte, what was asked for. */
  answered = 0
  readonly #templates: ReadonlyMap<number, EchoTemplate>
  readonly #pausing = new AbortController()
  readonly #over = new AbortController()
  #sending: Promise<unknown> = Promise.resolve()
  #receiving: Promise<unknown> = Promise.resolve()
  #failure: unknown

  constructor(pairs: readonly DriverPair[], { mac, address, firstPair }: EchoHost) {
    this.endpoints = pairs.map((pair, i) => new Endpoint(i, macOf(i), firstPair + i, pair))
    this.#templates = new Map(
      this.endpoints.map((endpoint) => [
        endpoint.index,
        new EchoTemplate({
          sourceMac: endpoint.mac,
          destinationMac: mac,
          source: endpoint.address,
          destination: address,
          identifier: endpoint.index,
          payloadBytes: PAYLOAD_BYTES,
        }),
      ]),
    )
  }

  start(): void {
    this.#sending = Promise.all(this.endpoints.map((endpoint) => this.#noted(this.#send(endpoint))))
    this.#receiving = Promise.all(this.endpoints.map((endpoint) => this.#noted(this.#receive(endpoint))))
  }

  async #noted(task: Promise<void>): Promise<void> {
    try {
      await task
    } catch (error) {
      if (!this.#over.signal.aborted) this.#failure ??= error
    }
  }

  /** @throws what has failed */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  /** No more requests; what is under way still comes. */
  pause(): void {
    this.#pausing.abort()
  }

  async #send(endpoint: Endpoint): Promise<void> {
    const template = this.#templates.get(endpoint.index)!
    const { tx } = endpoint
    const burst = new Burst(BURST)
    for (let sequence = 0; !this.#pausing.signal.aborted; ) {
      const count = tx.prepare(burst, VIRTIO_NET_HDR_SIZE + template.frame.length)
      for (const offset of burst.offsets.subarray(0, count)) {
        template.stamp(tx.pool, endpoint.place(offset, template.frame), sequence)
        sequence = (sequence + 1) % 2 ** 32
      }
      this.sent += tx.send(burst)
      burst.clear()
      await tx.drained(this.#over.signal)
    }
  }

  async #receive({ rx, received }: Endpoint): Promise<void> {
    const burst = new Burst(rx.layout.num)
    for (;;) {
      await rx.readable(this.#over.signal)
      const count = rx.receive(burst)
      for (let i = 0; i < count; i++) {
        const at = burst.offsets[i]! + VIRTIO_NET_HDR_SIZE
        const length = burst.lengths[i]! - VIRTIO_NET_HDR_SIZE
        // The host sends others of its own accord.
        if (!isEchoReply(received, at, length)) continue
        if (this.#templates.get(echoIdentifier(received, at))?.answeredBy(received, at, length)) this.answered++
        else
          this.#failure ??= new Error(
            `an echo reply that was not asked for: ${received.toString('hex', at, at + length)}`,
          )
      }
      rx.releaseBurst(burst)
    }
  }

  /** Nobody waits for the queues any more once this resolves. */
  async stop(): Promise<void> {
    this.pause()
    this.#over.abort()
    await this.#sending
    await this.#receiving
  }
}

/** 02:…: locally administered, so nobody's hardware has it. */
function macOf(pair: number): Uint8Array {
  return Uint8Array.of(0x02, 0x76, 0x6e, 0x73, 0, pair)
}
