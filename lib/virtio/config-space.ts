// A device's configuration space (virtio 1.x section 2.5): bytes, and a generation by which a driver knows that several
// reads belong together.

/** Read by a driver at any width and alignment; changed by the device. */
export class ConfigSpace {
  readonly #bytes: Uint8Array
  readonly #changed: () => void
  #generation = 0
  #seen = false

  /** @param changed called after each change, for the notification. */
  constructor(initial: Uint8Array, changed: () => void) {
    this.#bytes = Uint8Array.from(initial)
    this.#changed = changed
  }

  /** Bytes. */
  get size(): number {
    return this.#bytes.length
  }

  /**
   * What a driver reads before and after the fields. It is counted up only once somebody has looked since the last time:
   * a counter of 8 bits, as PCI has it, cannot come round between two looks however often the device changes.
   */
  get generation(): number {
    this.#seen = true
    return this.#generation
  }

  /** Up to 4 bytes as a little-endian number; those beyond the end are 0. */
  read(offset: number, width: number): number {
    this.#seen = true
    let value = 0
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#bytes[offset + i] ?? 0)
    return value
  }

  /** A copy of it all, as it is now; no look by which the generation would move. */
  bytes(): Uint8Array {
    return this.#bytes.slice()
  }

  /** Changes bytes on the device's behalf, together; the same bytes as before change nothing. */
  update(offset: number, bytes: Uint8Array): void {
    if (offset < 0 || offset + bytes.length > this.size) throw new RangeError('an update beyond configuration space')
    if (bytes.every((byte, i) => this.#bytes[offset + i] === byte)) return
    this.#bytes.set(bytes, offset)
    if (this.#seen) this.#generation = (this.#generation + 1) >>> 0
    this.#seen = false
    this.#changed()
  }
}
