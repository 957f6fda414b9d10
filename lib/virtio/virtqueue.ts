// A virtqueue as registers show it: what the driver writes before it enables it, and whether it is enabled.

import { vringSizes } from '../abi/virtio.ts'
import { QueueError } from '../errors.ts'
import { EventFd } from '../event/index.ts'
import { type GuestMemory, type MappedRange, NativeMemory } from '../memory/index.ts'
import type { SplitRingPlace } from './split-ring.ts'
import { checkVring, type Vring } from './vring.ts'

/** The three parts, each with an address. */
export type VringPart = 'desc' | 'avail' | 'used'

/** What a virtqueue is now; JSON-safe. Addresses are as the driver wrote them. */
export interface VirtqueueState {
  index: number
  sizeMax: number
  size: number
  desc: string
  avail: string
  used: string
  ready: boolean
}

/** One queue of a device. Its two eventfds stay the same for the device's life. */
export class Virtqueue {
  readonly index: number
  /** Largest size, a power of two. */
  readonly sizeMax: number
  /** What the driver signals, by a doorbell or the notify register. */
  readonly kick: EventFd
  /** What the device signals. */
  readonly call: EventFd
  readonly #memory: GuestMemory
  #size: number
  #addresses: Record<VringPart, bigint> = { desc: 0n, avail: 0n, used: 0n }
  #vring: Vring | undefined
  #unpin: (() => void)[] = []

  /** @throws {SystemCallError} `EMFILE` */
  constructor(memory: GuestMemory, index: number, sizeMax: number) {
    this.#memory = memory
    this.index = index
    this.sizeMax = sizeMax
    this.#size = sizeMax
    this.kick = EventFd.create(`the kick of queue ${index}`)
    try {
      this.call = EventFd.create(`the call of queue ${index}`)
    } catch (error) {
      this.kick.close()
      throw error
    }
  }

  /** Whether the driver enabled it. */
  get ready(): boolean {
    return this.#vring !== undefined
  }

  /** Where it lies, checked; undefined while it is not ready. */
  get vring(): Vring | undefined {
    return this.#vring
  }

  /** Entries, as the driver wrote them. */
  get size(): number {
    return this.#size
  }

  /** Ignored while it is ready. */
  set size(size: number) {
    if (!this.ready) this.#size = size
  }

  /** Replaces 32 bits of an address; ignored while it is ready. @param half 0 for the low, 1 for the high ones. */
  setAddress(part: VringPart, half: 0 | 1, word: number): void {
    if (this.ready) return
    const shift = half === 0 ? 0n : 32n
    this.#addresses[part] = (this.#addresses[part] & ~(0xffff_ffffn << shift)) | (BigInt(word >>> 0) << shift)
  }

  /** 32 bits of an address, as the driver wrote them. */
  addressWord(part: VringPart, half: 0 | 1): number {
    return Number((this.#addresses[part] >> (half === 0 ? 0n : 32n)) & 0xffff_ffffn)
  }

  /**
   * Checks what the driver wrote, and keeps memory under the ring.
   * @throws {QueueError} `ERR_QUEUE_SIZE`
   * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_RANGE`, `ERR_GPA_OVERLAP`
   */
  enable(): void {
    const name = `queue ${this.index}`
    if (this.#size > this.sizeMax) {
      throw new QueueError('ERR_QUEUE_SIZE', `${name}: a ring of ${this.#size} entries, the most is ${this.sizeMax}`)
    }
    const { desc, avail, used } = this.#addresses
    const { kick, call } = this
    const place = { num: this.#size, desc: Number(desc), avail: Number(avail), used: Number(used) }
    const vring = { ...place, kick, call }
    checkVring(vring, this.#memory.regions, name)
    this.#pin(place, name)
    this.#vring = vring
  }

  /** Regions can go while a device runs: not those that a ring lies in. */
  #pin({ num, ...at }: SplitRingPlace, name: string): void {
    if (!(this.#memory instanceof NativeMemory)) return
    const sizes = vringSizes(num)
    for (const part of ['desc', 'avail', 'used'] as const) {
      this.#unpin.push(this.#memory.pin(at[part], sizes[part], `the ${part} ring of ${name}`))
    }
  }

  /** What the driver wrote stays, for it to enable the queue again. */
  disable(): void {
    this.#vring = undefined
    for (const unpin of this.#unpin.splice(0)) unpin()
  }

  /** Everything as it was at first. */
  reset(): void {
    this.disable()
    this.#size = this.sizeMax
    this.#addresses = { desc: 0n, avail: 0n, used: 0n }
  }

  /** Where the used index lies, for who reads it natively; undefined where memory is not native, or while not ready. */
  usedIndexPlace(): MappedRange | undefined {
    if (this.#vring === undefined || !(this.#memory instanceof NativeMemory)) return undefined
    return this.#memory.locate(this.#vring.used + 2, 2)
  }

  /**
   * The used index in guest memory, whoever serves the queue; undefined while it is not ready.
   * @throws {StateError} `ERR_CLOSED` where the memory is closed
   */
  usedIndex(): number | undefined {
    if (this.#vring === undefined) return undefined
    const bytes = new Uint8Array(2)
    this.#memory.read(this.#vring.used + 2, bytes)
    return bytes[0]! | (bytes[1]! << 8)
  }

  /** What it is now. */
  inspect(): VirtqueueState {
    const { index, sizeMax, size, ready } = this
    const { desc, avail, used } = this.#addresses
    const hex = (address: bigint): string => `0x${address.toString(16)}`
    return { index, sizeMax, size, desc: hex(desc), avail: hex(avail), used: hex(used), ready }
  }

  /** Idempotent. */
  close(): void {
    this.reset()
    this.kick.close()
    this.call.close()
  }
}
