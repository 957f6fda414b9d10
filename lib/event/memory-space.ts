// Guest-physical addresses at which windows of registers come and go at run time.

import type { Registers } from './registers.ts'

/** What a bus of devices maps its windows in. */
export interface MemorySpace {
  /**
   * Accesses from `address` on, as many bytes as the window has, are the registers' from now on. The guest chose the
   * address, perhaps over its memory or another window: then it is this side that decides what is reached there, and
   * it throws nothing for that.
   * @returns undoes it
   */
  map(address: number, registers: Registers): () => void
}
