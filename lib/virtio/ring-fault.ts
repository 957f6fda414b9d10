// What a driver can do to a ring so that the device cannot go on with it.

import { QueueError } from '../errors.ts'

export type RingFaultCause =
  /** The available index ran ahead of the device by more entries than the ring has, or went backwards. */
  | 'avail-index'
  | 'head-out-of-range'
  | 'next-out-of-range'
  | 'chain-loop'
  | 'chain-too-long'
  | 'readable-after-writable'
  | 'indirect-not-agreed'
  | 'indirect-in-indirect'
  | 'indirect-with-next'
  /** No entry, or part of one. */
  | 'indirect-table-size'
  /** A buffer or an indirect table is not guest memory. */
  | 'outside-memory'
  /** A request has no byte that the device could write its answer to. */
  | 'no-room-for-answer'

/** `ERR_QUEUE_BROKEN` with its cause; a device may have causes of its own. */
export class BrokenRing<Cause extends string = RingFaultCause> extends QueueError {
  readonly fault: Cause

  constructor(fault: Cause, message: string) {
    super('ERR_QUEUE_BROKEN', message, { context: { fault } })
    this.fault = fault
  }
}
