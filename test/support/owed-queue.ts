// A queue of a driver that is interrupted only: what interrupts it is owed, seen over its shoulder in the rings.

import type { DriverQueue } from '../../lib/driver/index.ts'
import type { NativeMemory } from '../../lib/memory/index.ts'

/** One interrupt that the driver is owed. */
interface Debt {
  readonly usedEvent: number
  /** Milliseconds since some moment, and how long the vector had been masked until then. */
  readonly since: number
  readonly maskedBefore: number
  /** How often it was found unpaid. */
  looks: number
}

/** Between two looks a whole machine may have stood still: what nobody had the time to pay is not overdue. */
const LEAST_LOOKS = 10

export class OwedQueue {
  readonly name: string
  /** Interrupts that came. */
  interrupts = 0
  /** Those of them that the driver did not need: the queue had nothing that it was to be told of. */
  spurious = 0
  readonly #queue: DriverQueue
  readonly #usedEvent: DataView
  readonly #usedIdx: DataView
  #maskedAt: number | undefined
  #maskedMs = 0
  #debt: Debt | undefined

  /** With EVENT_IDX agreed on. */
  constructor(queue: DriverQueue, memory: NativeMemory) {
    const { num, avail, used } = queue.layout
    const at = (address: number): DataView => new DataView(memory.window(address, 2).buffer)
    this.name = queue.name
    this.#queue = queue
    this.#usedEvent = at(avail + 4 + 2 * num)
    this.#usedIdx = at(used + 2)
  }

  get usedEvent(): number {
    return this.#usedEvent.getUint16(0, true)
  }

  get usedIdx(): number {
    return this.#usedIdx.getUint16(0, true)
  }

  /**
   * Whether the device has used the entry that the driver wants to be told of (virtio 1.x section 2.7.7.2): one of the
   * ring's, since an event beyond them is how the driver says that it wants none.
   */
  get owed(): boolean {
    return ((this.usedIdx - this.usedEvent - 1) & 0xffff) < this.#queue.layout.num
  }

  get masked(): boolean {
    return this.#maskedAt !== undefined
  }

  /** Its vector is, or is no longer. */
  set masked(masked: boolean) {
    if (masked === this.masked) return
    const now = performance.now()
    if (this.#maskedAt !== undefined) this.#maskedMs += now - this.#maskedAt
    this.#maskedAt = masked ? now : undefined
  }

  /** It was, so many times. */
  interrupted(times: number): void {
    this.interrupts += times
    this.spurious += this.owed ? times - 1 : times
    this.wake()
  }

  /** Has the driver look. */
  wake(): void {
    this.#debt = undefined
    this.#queue.handleInterrupt()
  }

  /** For how many milliseconds, those in which its vector was masked not counted, it has waited for one interrupt. */
  overdue(): number {
    const { usedEvent } = this
    if (!this.owed) this.#debt = undefined
    else if (this.#debt?.usedEvent !== usedEvent) {
      this.#debt = { usedEvent, since: performance.now(), maskedBefore: this.#masked(), looks: 0 }
    }
    if (this.#debt === undefined || ++this.#debt.looks < LEAST_LOOKS) return 0
    return performance.now() - this.#debt.since - (this.#masked() - this.#debt.maskedBefore)
  }

  /** Milliseconds for which its vector was. */
  #masked(): number {
    return this.#maskedMs + (this.#maskedAt === undefined ? 0 : performance.now() - this.#maskedAt)
  }
}
