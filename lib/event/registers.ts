// A window of registers: what a bus calls when its guest reads or writes there.

import type { Handle, NativeRegisters } from '../binding/index.ts'

/** Bytes of a window that the addon serves by itself. */
export interface NativePart {
  /** Bytes from the window's first one. */
  readonly offset: number
  readonly registers: Handle<NativeRegisters>
}

/**
 * A window of device registers. The bus that embeds it knows at which guest address it lies.
 *
 * A width is 1, 2 or 4 bytes; a bus that has wider accesses cuts them into those, lowest address first (no field of
 * virtio needs a wider one: sections 4.1.3.1 and 4.2.2.2). Values are unsigned and little-endian. Both methods are
 * synchronous: once they return, what the guest asked for is true. They throw nothing for what a guest does: an access
 * that no register takes reads 0, or does nothing.
 */
export interface Registers {
  /** Bytes. */
  readonly size: number
  /** A part to which a bus with vCPU threads can lead accesses without JavaScript. `read` and `write` take them too. */
  readonly nativePart?: NativePart
  /** @param offset bytes from the window's first byte. */
  read(offset: number, width: number): number
  write(offset: number, width: number, value: number): void
}
