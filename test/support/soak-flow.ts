// One flow of a soak: what one NIC sends on one of its pairs, and what the other NIC has received of it.

import { EventEmitter, once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Burst, type TxQueue } from '../../lib/driver/index.ts'
import { SoakFrames } from './soak-frames.ts'

export const BURST = 256
/** More than a tap's queue, the ring behind it and what vhost has taken hold of a flow. */
const REMEMBERED = 2 ** 16

export class SoakFlow {
  readonly #frames: SoakFrames
  /** The next sequence number: as many were sent. */
  sent = 0
  /** Of the frames that came, the highest sequence number, and one more. */
  arrived = 0
  checked = 0
  missing = 0
  /** Those that came behind a later one: what a multi-queue tap does to a flow whose queue changes. */
  late = 0
  doubled = 0
  readonly #burst = new Burst(BURST)
  readonly #offsets = new Uint32Array(BURST)
  /** Which of the last ones came. */
  readonly #came = new Uint8Array(REMEMBERED)
  readonly #room = new EventEmitter<{ room: [] }>()

  constructor(source: number, pair: number) {
    this.#frames = new SoakFrames({ source, pair })
  }

  /** Sends up to so many now. @returns how many it sent */
  #send(tx: TxQueue, words: Int32Array, most: number): number {
    const count = tx.allocate(this.#offsets, Math.min(most, BURST))
    const burst = this.#burst
    burst.clear()
    for (let i = 0; i < count; i++) {
      const offset = this.#offsets[i]!
      burst.add(offset, this.#frames.write(words, offset / 4, this.sent + i))
    }
    const accepted = tx.send(burst)
    tx.release(this.#offsets.subarray(accepted, count), count - accepted)
    this.sent += accepted
    return accepted
  }

  /**
   * Sends what it is granted until there is no more, and then waits until the device has returned everything.
   * @param grant takes up to so many of what is still to be sent. @param window how many may be on their way
   */
  async run(tx: TxQueue, grant: (most: number) => number, window: number, signal: AbortSignal): Promise<void> {
    const words = wordsOf(tx.pool)
    for (let left = grant(BURST); left > 0; left = grant(BURST)) {
      while (left > 0) {
        const room = window - (this.sent - this.arrived)
        if (room < Math.min(left, BURST / 2)) {
          await once(this.#room, 'room', { signal })
          continue
        }
        const accepted = this.#send(tx, words, Math.min(left, room))
        left -= accepted
        if (accepted === 0) await tx.writable(signal, { frames: BURST, milliseconds: 10 })
      }
      // The event loop has its turn: whoever receives, and the other flows.
      await setImmediate()
      signal.throwIfAborted()
    }
    await tx.drained(signal)
  }

  /** Looks at a frame that came; false where it is not what was sent. */
  take(words: Int32Array, at: number, length: number): boolean {
    const sequence = this.#frames.read(words, at, length)
    if (sequence === undefined || sequence >= this.sent) return false
    const place = sequence % REMEMBERED
    if (sequence >= this.arrived) this.#advance(sequence)
    else if (this.#came[place] === 1 || sequence < this.arrived - REMEMBERED) return this.#double()
    else {
      this.late++
      this.missing--
    }
    this.#came[place] = 1
    this.checked++
    return true
  }

  /** All up to this one are missing, as long as they do not come late. */
  #advance(sequence: number): void {
    for (let skipped = Math.max(this.arrived, sequence - REMEMBERED); skipped < sequence; skipped++) {
      this.#came[skipped % REMEMBERED] = 0
    }
    this.missing += sequence - this.arrived
    this.arrived = sequence + 1
  }

  #double(): true {
    this.doubled++
    return true
  }

  /** Some of it came. */
  moved(): void {
    this.#room.emit('room')
  }

  /** Nothing is on its way any more: what has not come is missing. */
  settle(): void {
    if (this.sent === this.arrived) return
    this.#advance(this.sent - 1)
    this.missing++
    this.#came[(this.sent - 1) % REMEMBERED] = 0
  }
}

/** A pool as words; it begins with a page. */
export const wordsOf = (pool: Uint8Array): Int32Array =>
  new Int32Array(pool.buffer, pool.byteOffset, pool.byteLength / 4)
