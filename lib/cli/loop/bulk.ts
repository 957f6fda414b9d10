// Bulk traffic both ways: every pair floods the host with echo requests, and the kernel's own stack answers each.

import { setImmediate } from 'node:timers/promises'
import { VIRTIO_NET_HDR_SIZE } from '../../abi/virtio-net.ts'
import { Burst } from '../../driver/index.ts'
import { deadline } from './deadline.ts'
import type { Endpoint } from './endpoint.ts'
import { EchoTemplate, echoIdentifier, echoSequence } from './frames.ts'

const BURST = 64

/**
 * Requests that may be on their way per pair. The tap's queue holds 500 frames (TUN_READQ_SIZE) and drops what comes
 * on top, so one flow alone cannot overrun it.
 */
const WINDOW = 256

/** ICMP's sequence numbers, after which they repeat. */
const SEQUENCES = 0x10000

/** Bulk echo requests are told from pings by their identifier. */
const IDENTIFIERS = 0x1000

/** One pair's echo requests, and the check of what came back. */
export class EchoFlow {
  sent = 0
  /** Replies that are byte for byte what was asked for. */
  answered = 0
  /** Replies that are not. */
  corrupt = 0
  /** Replies to what was never asked, or was answered before. */
  unexpected = 0
  readonly #endpoint: Endpoint
  readonly #template: EchoTemplate
  /** By the lower half of the sequence number: 1 while a reply is awaited. */
  readonly #awaited = new Uint8Array(SEQUENCES)
  #next = 0
  /** One more than the highest sequence number that came back. */
  #acknowledged = 0
  #roomMade: (() => void) | undefined

  constructor(endpoint: Endpoint, to: { host: number; hostMac: Uint8Array; payloadBytes: number }) {
    this.#endpoint = endpoint
    this.#template = new EchoTemplate({
      sourceMac: endpoint.mac,
      destinationMac: to.hostMac,
      source: endpoint.address,
      destination: to.host,
      identifier: IDENTIFIERS + endpoint.index,
      payloadBytes: to.payloadBytes,
    })
    endpoint.echoTaker = (bytes, at, length) => this.#take(bytes, at, length)
  }

  /** Requests without a reply. */
  get lost(): number {
    return this.sent - this.answered - this.corrupt
  }

  /** Sends until `over` aborts; rejects where `signal` does. */
  async run(over: AbortSignal, signal: AbortSignal): Promise<void> {
    const { tx } = this.#endpoint
    const burst = new Burst(BURST)
    const offsets = new Uint32Array(BURST)
    const ended = AbortSignal.any([over, signal])
    const wake = () => this.#roomMade?.()
    ended.addEventListener('abort', wake)
    try {
      while (!ended.aborted) {
        if (this.#room < BURST) {
          await this.#untilRoom()
          continue
        }
        const count = tx.allocate(offsets)
        if (count === 0) {
          await tx.writable(signal)
          continue
        }
        for (let i = 0; i < count; i++) this.#prepare(burst, offsets[i] as number)
        await this.#endpoint.sendAll(burst, signal)
        this.sent += count
        // The event loop has its turn: receiving, timers, signals.
        await setImmediate()
      }
    } finally {
      ended.removeEventListener('abort', wake)
    }
    signal.throwIfAborted()
  }

  // Counted from the latest reply, not from the number of replies: a lost one must not narrow the window for good.
  get #room(): number {
    return WINDOW - (this.#next - this.#acknowledged)
  }

  #untilRoom(): Promise<void> {
    return new Promise((resolve) => {
      this.#roomMade = () => {
        this.#roomMade = undefined
        resolve()
      }
    })
  }

  #prepare(burst: Burst, offset: number): void {
    const sequence = this.#next++
    const at = this.#endpoint.place(offset, this.#template.frame)
    this.#template.stamp(this.#endpoint.tx.pool, at, sequence)
    this.#awaited[sequence % SEQUENCES] = 1
    burst.add(offset, VIRTIO_NET_HDR_SIZE + this.#template.frame.length)
  }

  #take(bytes: Buffer, at: number, length: number): boolean {
    if (echoIdentifier(bytes, at) !== this.#template.identifier) return false
    const sequence = echoSequence(bytes, at)
    const asked = sequence < this.#next && sequence >= this.#next - SEQUENCES
    if (!asked || this.#awaited[sequence % SEQUENCES] === 0) {
      this.unexpected++
      return true
    }
    this.#awaited[sequence % SEQUENCES] = 0
    if (this.#template.answeredBy(bytes, at, length)) this.answered++
    else this.corrupt++
    if (sequence >= this.#acknowledged) this.#acknowledged = sequence + 1
    if (this.#room >= BURST) this.#roomMade?.()
    return true
  }
}

/** Runs all flows for that long. @returns the milliseconds it took */
export async function bulk(flows: readonly EchoFlow[], seconds: number, signal: AbortSignal): Promise<number> {
  const started = performance.now()
  const over = deadline(seconds * 1000, signal)
  await Promise.all(flows.map((flow) => flow.run(over, signal)))
  return performance.now() - started
}
