// Guest memory over a plain ArrayBuffer: for logic that needs no kernel.

import { StateError } from '../errors.ts'
import { type GuestMemory, type MemoryRegion, regionOf } from './guest-memory.ts'

/** One region at guest-physical address 0. The kernel cannot see it. */
export class BufferMemory implements GuestMemory {
  readonly regions: readonly MemoryRegion[]
  #buffer: ArrayBuffer | undefined

  constructor(buffer: ArrayBuffer) {
    this.#buffer = buffer
    this.regions = [{ guestAddress: 0, size: buffer.byteLength }]
  }

  read(guestAddress: number, target: Uint8Array): void {
    target.set(this.window(guestAddress, target.byteLength))
  }

  write(guestAddress: number, source: Uint8Array): void {
    this.window(guestAddress, source.byteLength).set(source)
  }

  window(guestAddress: number, length: number): Uint8Array {
    if (this.#buffer === undefined) throw new StateError('ERR_CLOSED', 'guest memory is closed')
    regionOf(this.regions, guestAddress, length)
    return new Uint8Array(this.#buffer, guestAddress, length)
  }

  close(): void {
    this.#buffer = undefined
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
