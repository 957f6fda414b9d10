// The driver's end of a split virtqueue for one command at a time: bytes that the device reads, and one that it answers.

import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC_F,
  VRING_DESC_SIZE,
  VRING_USED_ELEM_SIZE,
  VRING_USED_F_NO_NOTIFY,
  vringSizes,
} from '../abi/virtio.ts'
import { QueueError } from '../errors.ts'
import type { GuestMemory } from '../memory/index.ts'
import { passesEvent } from '../virtio/split-ring.ts'
import type { QueuePlace } from './probed-device.ts'

/** Entries: one for the command, one for the answer. */
const NUM = 2
/** Places of 16-bit words: flags, idx, then the entries, then the event word. */
const FLAGS = 0
const IDX = 1
const ENTRIES = 2

const u16 = (value: number): number => value & 0xffff

/** Bytes of guest memory that it takes, whose first one is aligned to 16. */
export const COMMAND_RING_SIZE = 4096

const SIZES = vringSizes(NUM)
const AVAIL = SIZES.desc
const USED = Math.ceil((AVAIL + SIZES.avail) / 4) * 4
const ANSWER = USED + SIZES.used
const COMMAND = ANSWER + 1

/** The longest command. */
export const COMMAND_MAX = COMMAND_RING_SIZE - COMMAND

/** Never more than one command is with the device. The used index is loaded with Atomics, as lib/virtio's rings do. */
export class CommandRing {
  readonly place: QueuePlace
  readonly #eventIdx: boolean
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #avail: Uint16Array
  readonly #used: Uint16Array
  /** Commands made available, and answers taken. */
  #sent = 0
  #taken = 0

  /**
   * @param address guest-physical, aligned to 16.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE`
   */
  constructor(memory: GuestMemory, address: number, eventIdx: boolean) {
    const bytes = memory.window(address, COMMAND_RING_SIZE)
    bytes.fill(0)
    this.place = { num: NUM, desc: address, avail: address + AVAIL, used: address + USED }
    this.#eventIdx = eventIdx
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#avail = new Uint16Array(bytes.buffer, bytes.byteOffset + AVAIL, SIZES.avail / 2)
    this.#used = new Uint16Array(bytes.buffer, bytes.byteOffset + USED, SIZES.used / 2)
    this.#describe(0, address + COMMAND, 0, VRING_DESC_F.VRING_DESC_F_NEXT)
    this.#describe(1, address + ANSWER, 1, VRING_DESC_F.VRING_DESC_F_WRITE)
  }

  #describe(index: number, address: number, length: number, flags: number): void {
    const at = index * VRING_DESC_SIZE
    this.#view.setBigUint64(at, BigInt(address), true)
    this.#view.setUint32(at + 8, length, true)
    this.#view.setUint16(at + 12, flags, true)
    this.#view.setUint16(at + 14, index + 1 === NUM ? 0 : index + 1, true)
  }

  /** Makes a command available, of at most {@link COMMAND_MAX} bytes. Returns whether the device wants a kick for it. */
  send(command: Uint8Array): boolean {
    this.#bytes.set(command, COMMAND)
    this.#bytes[ANSWER] = 0xff
    this.#view.setUint32(8, command.length, true)
    // Nobody waits for a call. With EVENT_IDX the flags stay 0, and the event index is behind.
    if (this.#eventIdx) this.#avail[ENTRIES + NUM] = this.#taken - 1
    else this.#avail[FLAGS] = VRING_AVAIL_F_NO_INTERRUPT
    this.#avail[ENTRIES + (this.#sent % NUM)] = 0
    const before = this.#sent
    this.#sent = u16(this.#sent + 1)
    Atomics.store(this.#avail, IDX, this.#sent)
    if (!this.#eventIdx) return (Atomics.load(this.#used, FLAGS) & VRING_USED_F_NO_NOTIFY) === 0
    const event = Atomics.load(this.#used, ENTRIES + (VRING_USED_ELEM_SIZE / 2) * NUM)
    return passesEvent(event, this.#sent, before)
  }

  /**
   * The answer to the command; undefined while there is none.
   * @throws {QueueError} `ERR_QUEUE_BROKEN`
   */
  take(): number | undefined {
    const waiting = u16(Atomics.load(this.#used, IDX) - this.#taken)
    if (waiting === 0) return undefined
    const at = USED + 4 + VRING_USED_ELEM_SIZE * (this.#taken % NUM)
    const [id, length] = [this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true)]
    if (waiting > u16(this.#sent - this.#taken) || id !== 0 || length === 0) {
      const problem = `descriptor ${id} of length ${length}, ${waiting} at once`
      throw new QueueError('ERR_QUEUE_BROKEN', `the control queue: the device returned ${problem}`)
    }
    this.#taken = u16(this.#taken + 1)
    return this.#bytes[ANSWER]
  }
}
