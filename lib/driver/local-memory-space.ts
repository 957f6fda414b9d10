// Windows of registers at addresses, for drivers that are in the process of their devices: what a CPU's bus is to a guest.

import type { MemorySpace, Registers } from '../event/index.ts'

/** What lies nowhere reads as ones. Of windows that overlap the one that was mapped first answers. */
export class LocalMemorySpace implements MemorySpace {
  readonly #windows = new Set<{ address: number; registers: Registers }>()

  map(address: number, registers: Registers): () => void {
    const window = { address, registers }
    this.#windows.add(window)
    return () => this.#windows.delete(window)
  }

  /** @param width 1, 2 or 4 bytes */
  read(address: number, width: number): number {
    const window = this.#find(address, width)
    return window === undefined ? 2 ** (8 * width) - 1 : window.registers.read(address - window.address, width)
  }

  write(address: number, width: number, value: number): void {
    const window = this.#find(address, width)
    window?.registers.write(address - window.address, width, value)
  }

  #find(from: number, width: number): { address: number; registers: Registers } | undefined {
    for (const window of this.#windows) {
      if (from >= window.address && from + width <= window.address + window.registers.size) return window
    }
    return undefined
  }
}
