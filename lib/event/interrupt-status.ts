// InterruptStatus and InterruptACK of virtio over MMIO: one for JavaScript and for the threads of vCPUs.

import { binding, Handle, type NativeMapping, type NativeRegisters } from '../binding/index.ts'

/** Offsets from the part's first byte. */
const STATUS = 0
const ACKNOWLEDGE = 4

/**
 * Computed when it is read, from the used indexes of a device's queues: it needs no wake-up, whoever serves them. A used
 * index that moved by exactly 65,536 since the last acknowledged read looks as if it had not moved: nothing in the ring
 * tells the two apart.
 */
export class InterruptStatus extends Handle<NativeRegisters> {
  /** @param queues of the device */
  constructor(queues: number) {
    super(binding().interruptStatusCreate(queues), 'the interrupt status', (native) => binding().closeRegisters(native))
  }

  /** Used buffers are shown between DRIVER_OK and reset only. */
  setStarted(started: boolean): void {
    binding().interruptStatusStarted(this.native, started)
  }

  /**
   * The queue is enabled, and its used index is 0.
   * @param place where that lies; `setUsed` says what it is where it is not in native memory
   */
  begin(queue: number, place?: { mapping: NativeMapping; offset: number }): void {
    binding().interruptStatusBegin(this.native, queue, place?.mapping ?? null, place?.offset ?? 0)
  }

  setUsed(queue: number, used: number): void {
    binding().interruptStatusUsed(this.native, queue, used)
  }

  /** The queue runs no more: what it used is still to be acknowledged. */
  end(queue: number): void {
    binding().interruptStatusEnd(this.native, queue)
  }

  /** The guest is to be told of a change of configuration space or status. */
  configChanged(): void {
    binding().interruptStatusConfig(this.native)
  }

  reset(): void {
    binding().interruptStatusReset(this.native)
  }

  /** The register as a guest reads it: what is pending, and is shown by that. */
  read(): number {
    return binding().registersRead(this.native, STATUS, 4)
  }

  /** Takes back what the last read showed. What came since has an interrupt of its own, which must find it here. */
  acknowledge(bits: number): void {
    binding().registersWrite(this.native, ACKNOWLEDGE, 4, bits)
  }
}
