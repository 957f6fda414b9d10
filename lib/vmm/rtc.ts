// The clock of a machine.

import { binding, Handle, type NativeRegisters } from '../binding/index.ts'

/** A clock in CMOS, served on the thread of the vCPU. */
export class Rtc extends Handle<NativeRegisters> {
  constructor() {
    super(binding().rtcCreate(), 'the clock', (native) => binding().closeRegisters(native))
  }
}
