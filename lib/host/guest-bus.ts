// What lies at the addresses at which the guests of one VM leave their vCPUs: windows of registers.

import { binding, Handle, type Hints, type NativeBus, type NativeRegisters, systemCall } from '../binding/index.ts'
import type { Registers } from '../event/index.ts'

/** x86's ports, or the guest-physical addresses that are no memory. */
export type AddressSpace = 'ports' | 'memory'

const hints: Hints = {
  EEXIST: 'Windows do not overlap: close the one that lies there first.',
  EINVAL: 'A window has at least one byte; ports end at 0xffff.',
}

/** Shared by all vCPUs of a VM. An access that no window has all of reads as ones, or does nothing. */
export class GuestBus extends Handle<NativeBus> {
  readonly #windows = new Map<number, Registers>()
  #nextId = 0

  constructor() {
    super(binding().busCreate(), 'the bus', (bus) => binding().closeBus(bus))
  }

  /**
   * Accesses of the guest at `address` on are the registers' from now on, on this thread, with their vCPU waiting; those
   * to their native part are served on the vCPU's.
   * @returns undoes it
   * @throws {SystemCallError} `EEXIST` where the window overlaps another, `EINVAL` where it ends beyond the space
   */
  map(space: AddressSpace, address: number, registers: Registers): () => void {
    const id = this.#nextId++
    const { size, nativePart } = registers
    const unmap = this.#add(space, address, (bus) => {
      binding().busAdd(bus, space, address, size, id, nativePart?.registers.native ?? null, nativePart?.offset ?? 0)
    })
    this.#windows.set(id, registers)
    return () => {
      if (this.#windows.delete(id)) unmap()
    }
  }

  /**
   * The same for registers that the addon serves, on the vCPU's thread.
   * @throws {SystemCallError} `EEXIST`, `EINVAL`
   */
  mapNative(space: AddressSpace, address: number, registers: Handle<NativeRegisters>): () => void {
    return this.#add(space, address, (bus) => binding().busAddRegisters(bus, space, address, registers.native))
  }

  #add(space: AddressSpace, address: number, add: (bus: NativeBus) => void): () => void {
    const bus = this.native
    systemCall(() => add(bus), { subject: `${space} at 0x${address.toString(16)}`, hints })
    let mapped = true
    return () => {
      if (mapped && !this.closed) binding().busRemove(bus, space, address)
      mapped = false
    }
  }

  /** @internal One access; ones where the window has gone meanwhile. */
  access(id: number, offset: number, width: number, write: boolean, value: number): number {
    const registers = this.#windows.get(id)
    if (registers === undefined) return 0xffff_ffff
    if (!write) return registers.read(offset, width)
    registers.write(offset, width, value)
    return 0
  }
}
