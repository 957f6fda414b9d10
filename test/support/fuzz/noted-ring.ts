// A ring of the guest's, each write of which is noted.

import { GuestRing, type RawDescriptor } from '../guest-ring.ts'
import type { Note } from './operations.ts'

export class NotedRing extends GuestRing {
  readonly #view: DataView
  /** Index of its queue. */
  readonly queue: number
  readonly #note: Note
  /** Descriptors with the device, as far as the guest knows. */
  taken = 0
  /** The descriptor whose turn it is, as a count since the start. */
  cursor = 0
  /** Indirect tables that were used. */
  tables = 0
  #returned = 0
  /** An entry that the device must not get behind, as a count since the start. */
  barrier: number | undefined
  /** The guest wrote where only the device may. */
  spoilt = false

  constructor(bytes: ArrayBuffer, at: number, num: number, queue: number, note: Note) {
    super(bytes, at, num)
    this.#view = new DataView(bytes)
    this.queue = queue
    this.#note = note
  }

  override describe(index: number, raw: RawDescriptor, table = this.desc): void {
    const { address = 0, length = 0, flags = 0, next = 0 } = raw
    const where = table === this.desc ? 'ring' : 'table'
    this.#note('descriptors', 'describe', this.queue, where, index, address, length, flags, next)
    super.describe(index, raw, table)
  }

  override offer(...heads: readonly number[]): void {
    this.#note('publishes', 'offer', this.queue, ...heads)
    super.offer(...heads)
  }

  override set availIdx(value: number) {
    this.#note('publishes', 'availIdx', this.queue, value & 0xffff)
    super.availIdx = value
  }

  override set availFlags(value: number) {
    this.#note('publishes', 'availFlags', this.queue, value)
    super.availFlags = value
  }

  /** The available index in memory, whoever wrote it. */
  get published(): number {
    return this.#view.getUint16(this.avail + 2, true)
  }

  /** Everything that is available was used. */
  get idle(): boolean {
    return this.published === this.usedIdx
  }

  /** How many entries came back since this was asked last. */
  takeReturned(): number {
    const used = this.usedIdx
    const returned = (used - this.#returned) & 0xffff
    this.#returned = used
    return returned
  }

  /** A range that the guest wrote itself: its used ring is the device's. */
  wrote(address: number, length: number): void {
    if (address < this.end && address + length > this.used) this.spoilt = true
  }
}
