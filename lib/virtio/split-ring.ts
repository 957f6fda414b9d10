// The device's end of a split virtqueue (virtio 1.x section 2.7), for queues that are served in this process.
//
// Order. The driver works on another CPU, so indexes and flags are loaded and stored with Atomics only. On memory that
// is no SharedArrayBuffer, as the windows over guest memory are none, ECMAScript promises nothing for Atomics; what we
// build on is V8, which compiles them to the same sequentially consistent accesses on any integer array (x86-64: xchg
// and mov; arm64: stlr and ldar) and moves no other access across them. Hence:
// - the load of avail.idx comes before the loads of the entries and descriptors it stands for;
// - the stores of a used element, and of the bytes of its buffer, come before the store of used.idx;
// - the store of used.idx comes before the load of used_event or avail.flags, and the store of avail_event or used.flags
//   before the second load of avail.idx: neither side sleeps on what the other has just said.
// Descriptors and buffers are copied with plain accesses and may tear while a driver breaks its promise not to change
// them; each is copied once, and what is checked is the copy. Hosts are little-endian, as the rings are.

import { VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY, VRING_USED_OVERHEAD, vringSizes } from '../abi/virtio.ts'
import type { GuestMemory } from '../memory/index.ts'
import type { DescriptorChain } from './chain.ts'
import { DescriptorReader } from './descriptors.ts'
import { BrokenRing } from './ring-fault.ts'

const u16 = (value: number): number => value & 0xffff

/** Places of 16-bit words: in both rings flags and idx come first, then the entries, then the event word. */
const FLAGS = 0
const IDX = 1
const ENTRIES = 2
/** 16-bit words of a used element. */
const USED_ELEM_WORDS = 4

/** Where a ring lies; checked. */
export interface SplitRingPlace {
  readonly num: number
  readonly desc: number
  readonly avail: number
  readonly used: number
}

export interface SplitRingOptions {
  /** Whether INDIRECT_DESC was agreed on. */
  readonly indirect: boolean
  /** Whether EVENT_IDX was. */
  readonly eventIdx: boolean
}

/**
 * Whether a step from index `before` to index `now` passes the event index (section 2.7.7.2), all of them 16-bit and
 * coming round.
 */
export function passesEvent(event: number, now: number, before: number): boolean {
  return u16(now - event - 1) < u16(now - before)
}

/** A fresh ring: both sides begin at index 0. */
export class SplitRing {
  readonly #num: number
  readonly #eventIdx: boolean
  readonly #reader: DescriptorReader
  readonly #avail: Uint16Array
  readonly #used: Uint16Array
  readonly #elements: Uint32Array
  /** Available index that comes next, and the used index that follows. */
  #next = 0
  #returned = 0
  /** Used index at the last decision about an interrupt. */
  #told = 0

  /** @throws {GuestMemoryError} `ERR_GPA_RANGE` */
  constructor(memory: GuestMemory, { num, desc, avail, used }: SplitRingPlace, options: SplitRingOptions) {
    const sizes = vringSizes(num)
    const availBytes = memory.window(avail, sizes.avail)
    const usedBytes = memory.window(used, sizes.used)
    this.#num = num
    this.#eventIdx = options.eventIdx
    this.#reader = new DescriptorReader(memory, memory.window(desc, sizes.desc), options.indirect)
    this.#avail = new Uint16Array(availBytes.buffer, availBytes.byteOffset, sizes.avail / 2)
    this.#used = new Uint16Array(usedBytes.buffer, usedBytes.byteOffset, sizes.used / 2)
    this.#elements = new Uint32Array(usedBytes.buffer, usedBytes.byteOffset + 4, (sizes.used - VRING_USED_OVERHEAD) / 4)
  }

  /** Takes the next buffer; undefined where there is none. @throws {BrokenRing} */
  take(): DescriptorChain | undefined {
    const waiting = u16(Atomics.load(this.#avail, IDX) - this.#next)
    if (waiting === 0) return undefined
    if (waiting > this.#num) {
      throw new BrokenRing('avail-index', `the available index is ${waiting} ahead in a ring of ${this.#num}`)
    }
    const head = Atomics.load(this.#avail, ENTRIES + (this.#next % this.#num))
    const chain = this.#reader.chain(head)
    this.#next = u16(this.#next + 1)
    return chain
  }

  /** Returns a buffer with the number of bytes written to it. */
  giveBack({ head, written }: DescriptorChain): void {
    const at = 2 * (this.#returned % this.#num)
    Atomics.store(this.#elements, at, head)
    Atomics.store(this.#elements, at + 1, written)
    this.#returned = u16(this.#returned + 1)
    Atomics.store(this.#used, IDX, this.#returned)
  }

  /** Whether the driver wants an interrupt for what was given back since this was asked last. */
  interruptWanted(): boolean {
    const [before, now] = [this.#told, this.#returned]
    this.#told = now
    if (now === before) return false
    if (!this.#eventIdx) return (Atomics.load(this.#avail, FLAGS) & VRING_AVAIL_F_NO_INTERRUPT) === 0
    return passesEvent(Atomics.load(this.#avail, ENTRIES + this.#num), now, before)
  }

  /** Asks for no kicks while the device is busy anyway. With EVENT_IDX the event index just stays behind. */
  refuseKicks(): void {
    if (!this.#eventIdx) Atomics.store(this.#used, FLAGS, VRING_USED_F_NO_NOTIFY)
  }

  /** Asks for a kick with the next buffer. Returns whether one has come already, for which none may follow. */
  wantKicks(): boolean {
    if (this.#eventIdx) Atomics.store(this.#used, ENTRIES + USED_ELEM_WORDS * this.#num, this.#next)
    else Atomics.store(this.#used, FLAGS, 0)
    return Atomics.load(this.#avail, IDX) !== this.#next
  }
}
