// The driver's end of a split virtqueue, written word by word as a guest does: one that keeps to the rules, or not.

import { VRING_DESC_F, VRING_DESC_SIZE, VRING_USED_ELEM_SIZE, vringSizes } from '../../lib/abi/virtio.ts'

const { VRING_DESC_F_NEXT: NEXT, VRING_DESC_F_WRITE: WRITE, VRING_DESC_F_INDIRECT: INDIRECT } = VRING_DESC_F

/** One descriptor, unchecked. */
export interface RawDescriptor {
  address?: number | bigint
  length?: number
  flags?: number
  next?: number
}

export interface Buffer {
  address: number
  length: number
  deviceWrites?: boolean
}

export interface UsedElement {
  id: number
  length: number
}

export class GuestRing {
  readonly num: number
  readonly desc: number
  readonly avail: number
  readonly used: number
  /** The first byte behind the rings. */
  readonly end: number
  readonly #view: DataView
  /** Available entries since the start. */
  offered = 0

  /** Lays the three parts out from `at` on and clears them. */
  constructor(bytes: ArrayBuffer, at: number, num: number) {
    const sizes = vringSizes(num)
    this.num = num
    this.desc = at
    this.avail = this.desc + sizes.desc
    this.used = Math.ceil((this.avail + sizes.avail) / 4) * 4
    this.end = this.used + sizes.used
    this.#view = new DataView(bytes)
    new Uint8Array(bytes, at, this.end - at).fill(0)
  }

  /** Writes a descriptor of the ring, or of the table at `table`. */
  describe(index: number, { address = 0, length = 0, flags = 0, next = 0 }: RawDescriptor, table = this.desc): void {
    const at = table + index * VRING_DESC_SIZE
    this.#view.setBigUint64(at, BigInt(address), true)
    this.#view.setUint32(at + 8, length, true)
    this.#view.setUint16(at + 12, flags, true)
    this.#view.setUint16(at + 14, next, true)
  }

  /** Writes a chain into entries from `first` on. */
  chain(buffers: readonly Buffer[], first = 0, table = this.desc): void {
    for (const [i, { address, length, deviceWrites }] of buffers.entries()) {
      const last = i === buffers.length - 1
      const flags = (last ? 0 : NEXT) | (deviceWrites === true ? WRITE : 0)
      this.describe(first + i, { address, length, flags, next: last ? 0 : first + i + 1 }, table)
    }
  }

  /** Writes the chain into an indirect table, and the descriptor that points to it. */
  indirect(buffers: readonly Buffer[], table: number, index = 0, flags = 0): void {
    this.chain(buffers, 0, table)
    this.describe(index, { address: table, length: buffers.length * VRING_DESC_SIZE, flags: INDIRECT | flags })
  }

  /** Makes heads available, all at once. */
  offer(...heads: readonly number[]): void {
    for (const head of heads) this.#view.setUint16(this.avail + 4 + 2 * (this.offered++ % this.num), head, true)
    this.availIdx = this.offered
  }

  set availIdx(value: number) {
    this.#view.setUint16(this.avail + 2, value & 0xffff, true)
  }

  set availFlags(value: number) {
    this.#view.setUint16(this.avail, value, true)
  }

  /** The used index at which the driver wants to be interrupted. */
  set usedEvent(value: number) {
    this.#view.setUint16(this.avail + 4 + 2 * this.num, value & 0xffff, true)
  }

  get usedFlags(): number {
    return this.#view.getUint16(this.used, true)
  }

  get usedIdx(): number {
    return this.#view.getUint16(this.used + 2, true)
  }

  /** In the device's place. */
  set usedIdx(value: number) {
    this.#view.setUint16(this.used + 2, value & 0xffff, true)
  }

  /** The available index at which the device wants a kick. */
  get availEvent(): number {
    return this.#view.getUint16(this.used + 4 + VRING_USED_ELEM_SIZE * this.num, true)
  }

  /** The used element with this index since the start. */
  usedElement(index: number): UsedElement {
    const at = this.used + 4 + VRING_USED_ELEM_SIZE * (index % this.num)
    return { id: this.#view.getUint32(at, true), length: this.#view.getUint32(at + 4, true) }
  }
}
