// Registers with a witness: every access goes through to the device, and into a log.

import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import type { Registers } from '../../lib/event/index.ts'

export interface Access {
  what: 'read' | 'write'
  offset: number
  width: number
  value: number
}

export class WatchedRegisters implements Registers {
  readonly log: Access[] = []
  readonly #registers: Registers
  /** Called before each access; what it returns is read instead. */
  onAccess: ((access: Omit<Access, 'value'> & { value?: number }) => number | undefined) | undefined

  constructor(registers: Registers) {
    this.#registers = registers
  }

  get size(): number {
    return this.#registers.size
  }

  read(offset: number, width: number): number {
    const value = this.onAccess?.({ what: 'read', offset, width }) ?? this.#registers.read(offset, width)
    this.log.push({ what: 'read', offset, width, value })
    return value
  }

  write(offset: number, width: number, value: number): void {
    this.onAccess?.({ what: 'write', offset, width, value })
    this.log.push({ what: 'write', offset, width, value })
    this.#registers.write(offset, width, value)
  }

  /** What was written to a register, in order. */
  written(register: keyof typeof VIRTIO_MMIO): number[] {
    return this.log
      .filter(({ what, offset }) => what === 'write' && offset === VIRTIO_MMIO[register])
      .map(({ value }) => value)
  }

  /** Accesses to a register, in order. */
  of(register: keyof typeof VIRTIO_MMIO): Access[] {
    return this.log.filter(({ offset }) => offset === VIRTIO_MMIO[register])
  }
}

/** Registers of nothing: each reads what it was told, else 0. */
export function plainRegisters(values: Partial<Record<keyof typeof VIRTIO_MMIO, number>>): WatchedRegisters {
  const byOffset = new Map(
    Object.entries(values).map(([name, value]) => [VIRTIO_MMIO[name as 'VIRTIO_MMIO_STATUS'], value]),
  )
  return new WatchedRegisters({
    size: 0x200,
    read: (offset) => byOffset.get(offset as 0x070) ?? 0,
    write: () => undefined,
  })
}
