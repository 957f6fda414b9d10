// Why a device needs a reset.

import { VhostNetError } from '../errors.ts'
import { BrokenRing } from './ring-fault.ts'

export interface DeviceFault {
  /** A {@link RingFaultCause}; the code of another error of this package; else `'device'`. */
  readonly cause: string
  /** Index of the queue it is about. */
  readonly queue: number | undefined
  readonly message: string
  readonly error: unknown
}

export function faultOf(error: unknown, queue: number | undefined): DeviceFault {
  return { cause: causeOf(error), queue, message: error instanceof Error ? error.message : String(error), error }
}

function causeOf(error: unknown): string {
  if (error instanceof BrokenRing) return error.fault
  return error instanceof VhostNetError ? error.code : 'device'
}
