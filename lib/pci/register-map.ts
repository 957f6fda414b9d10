// Several windows of registers in one, as structures lie behind one base address register.

import type { Registers } from '../event/index.ts'

export interface PlacedRegisters {
  /** Bytes from the first of all. */
  readonly offset: number
  readonly registers: Registers
}

/** An access that is not wholly within one of them reads 0, or does nothing. */
export class RegisterMap implements Registers {
  /** Bytes: the least power of two, 16 at least, that holds them all. */
  readonly size: number
  readonly #parts: readonly PlacedRegisters[]

  constructor(parts: readonly PlacedRegisters[]) {
    this.#parts = parts
    const end = Math.max(16, ...parts.map(({ offset, registers }) => offset + registers.size))
    this.size = 2 ** Math.ceil(Math.log2(end))
  }

  read(offset: number, width: number): number {
    const part = this.#at(offset, width)
    return part === undefined ? 0 : part.registers.read(offset - part.offset, width)
  }

  write(offset: number, width: number, value: number): void {
    const part = this.#at(offset, width)
    part?.registers.write(offset - part.offset, width, value)
  }

  #at(from: number, width: number): PlacedRegisters | undefined {
    return this.#parts.find(({ offset, registers }) => from >= offset && from + width <= offset + registers.size)
  }
}
