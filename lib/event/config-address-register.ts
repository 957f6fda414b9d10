// CONFIG_ADDRESS of PCI's configuration mechanism #1: one for JavaScript and for the threads of vCPUs.

import { binding, Handle, type NativeRegisters } from '../binding/index.ts'

/**
 * Where in configuration space the next access of CONFIG_DATA goes. A guest writes it before each of these: it waits for
 * JavaScript half as often where this needs none.
 */
export class ConfigAddressRegister extends Handle<NativeRegisters> {
  constructor() {
    super(binding().configAddressCreate(), 'CONFIG_ADDRESS', (native) => binding().closeRegisters(native))
  }

  /** As a guest does. */
  read(width: number): number {
    return binding().registersRead(this.native, 0, width)
  }

  write(width: number, value: number): void {
    binding().registersWrite(this.native, 0, width, value)
  }
}
