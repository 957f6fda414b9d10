// Where a guest places registers that it may move, beside those that lie where the machine has them.

import { SystemCallError } from '../errors.ts'
import type { MemorySpace, Registers } from '../event/index.ts'
import type { GuestBus } from '../host/index.ts'

export class DeviceMemory implements MemorySpace {
  readonly #bus: GuestBus

  constructor(bus: GuestBus) {
    this.#bus = bus
  }

  /** What a guest places over other registers lies nowhere: those were there first. */
  map(address: number, registers: Registers): () => void {
    try {
      return this.#bus.map('memory', address, registers)
    } catch (error) {
      if (error instanceof SystemCallError && (error.code === 'EEXIST' || error.code === 'EINVAL'))
        return () => undefined
      throw error
    }
  }
}
