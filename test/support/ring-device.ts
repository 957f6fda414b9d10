// The device's end of a split virtqueue, in memory of this process: takes chains, checks them, returns them; on request
// it lies. For tests of the driver without a kernel.

import assert from 'node:assert/strict'
import { VRING_DESC_SIZE, VRING_USED_ELEM_SIZE } from '../../lib/abi/virtio.ts'
import type { QueueLayout } from '../../lib/driver/index.ts'
import type { GuestMemory } from '../../lib/memory/index.ts'

const NEXT = 1
const WRITE = 2
const INDIRECT = 4

const u16 = (value: number): number => value & 0xffff

export interface DeviceSegment {
  address: number
  length: number
  deviceWrites: boolean
}

/** A chain that the driver made available and the device has not returned. */
export interface Chain {
  head: number
  segments: DeviceSegment[]
  /** Descriptors of the ring it takes. */
  descriptors: number[]
  indirect: boolean
}

/**
 * Whether a side that goes from `before` to `now`, in total since the start, passes the 16-bit index at which the other
 * side wants to hear of it (virtio 1.x section 2.7.7.2, spelt out).
 */
export function passesEvent(event: number, before: bigint, now: bigint): boolean {
  for (let index = before; index < now; index++) {
    if (BigInt.asUintN(16, index) === BigInt(event)) return true
  }
  return false
}

export class RingDevice {
  readonly layout: QueueLayout
  readonly #bytes: DataView
  readonly #memory: Uint8Array
  #taken = 0
  #used = 0

  constructor(memory: GuestMemory, layout: QueueLayout) {
    this.layout = layout
    this.#memory = memory.window(0, memory.regions[0]!.size)
    this.#bytes = new DataView(this.#memory.buffer, this.#memory.byteOffset, this.#memory.byteLength)
  }

  get availFlags(): number {
    return this.#bytes.getUint16(this.layout.avail, true)
  }

  get availIdx(): number {
    return this.#bytes.getUint16(this.layout.avail + 2, true)
  }

  /** The used index at which the driver wants a call, with EVENT_IDX. */
  get usedEvent(): number {
    return this.#bytes.getUint16(this.layout.avail + 4 + 2 * this.layout.num, true)
  }

  get usedIdx(): number {
    return this.#bytes.getUint16(this.layout.used + 2, true)
  }

  set usedIdx(value: number) {
    this.#bytes.setUint16(this.layout.used + 2, u16(value), true)
  }

  /** VIRTQ_USED_F_NO_NOTIFY: whether the device wants no kicks, without EVENT_IDX. */
  set noNotify(value: boolean) {
    this.#bytes.setUint16(this.layout.used, value ? 1 : 0, true)
  }

  /** The available index at which the device wants a kick, with EVENT_IDX. */
  set availEvent(value: number) {
    this.#bytes.setUint16(this.layout.used + 4 + VRING_USED_ELEM_SIZE * this.layout.num, u16(value), true)
  }

  /** Chains returned since the start. */
  get used(): number {
    return this.#used
  }

  /** Chains taken since the start. */
  get taken(): number {
    return this.#taken
  }

  bytes(address: number, length: number): Uint8Array {
    return this.#memory.subarray(address, address + length)
  }

  /** The next chain, every rule of whose descriptors was checked; undefined where there is none. */
  take(): Chain | undefined {
    const waiting = u16(this.availIdx - this.#taken)
    assert.ok(waiting <= this.layout.num, `avail.idx is ${waiting} ahead of a ring of ${this.layout.num}`)
    if (waiting === 0) return undefined
    const slot = this.#taken % this.layout.num
    this.#taken++
    return this.#walk(this.#bytes.getUint16(this.layout.avail + 4 + 2 * slot, true))
  }

  #walk(head: number): Chain {
    const { num, desc } = this.layout
    assert.ok(head < num, `head ${head}`)
    const first = this.#descriptor(desc, head)
    if (first.flags & INDIRECT) {
      assert.equal(first.flags, INDIRECT)
      assert.equal(first.length % VRING_DESC_SIZE, 0)
      const { segments } = this.#follow(first.address, first.length / VRING_DESC_SIZE, 0)
      assert.equal(segments.length, first.length / VRING_DESC_SIZE)
      return { head, segments, descriptors: [head], indirect: true }
    }
    return { head, ...this.#follow(desc, num, head), indirect: false }
  }

  #follow(table: number, entries: number, from: number): Pick<Chain, 'segments' | 'descriptors'> {
    const segments: DeviceSegment[] = []
    const descriptors: number[] = []
    for (let at = from; ; ) {
      assert.ok(at < entries, `next ${at} in a table of ${entries}`)
      assert.ok(segments.length < entries, 'a loop of descriptors')
      const { address, length, flags, next } = this.#descriptor(table, at)
      assert.equal(flags & ~(NEXT | WRITE), 0)
      segments.push({ address, length, deviceWrites: (flags & WRITE) !== 0 })
      descriptors.push(at)
      if (!(flags & NEXT)) return { segments, descriptors }
      at = next
    }
  }

  #descriptor(table: number, index: number): { address: number; length: number; flags: number; next: number } {
    const at = table + index * VRING_DESC_SIZE
    const address = Number(this.#bytes.getBigUint64(at, true))
    const length = this.#bytes.getUint32(at + 8, true)
    return { address, length, flags: this.#bytes.getUint16(at + 12, true), next: this.#bytes.getUint16(at + 14, true) }
  }

  /** Returns chains together: the used index moves once. */
  giveBack(...elements: readonly { id: number; length: number }[]): void {
    for (const { id, length } of elements) {
      const at = this.layout.used + 4 + VRING_USED_ELEM_SIZE * (this.#used++ % this.layout.num)
      this.#bytes.setUint32(at, id, true)
      this.#bytes.setUint32(at + 4, length, true)
    }
    this.usedIdx = this.#used
  }

  /** Takes and returns the next chains as they come, unchecked: to get far in little time. */
  spin(count: number, length = 0): void {
    const { num, avail } = this.layout
    for (let left = count; left > 0; left--) {
      const id = this.#bytes.getUint16(avail + 4 + 2 * (this.#taken++ % num), true)
      const at = this.layout.used + 4 + VRING_USED_ELEM_SIZE * (this.#used++ % num)
      this.#bytes.setUint32(at, id, true)
      this.#bytes.setUint32(at + 4, length, true)
    }
    this.usedIdx = this.#used
  }
}
