// ECAM: configuration space as memory, 4096 bytes for each function (PCI Express Base Specification section 7.2.2).

import { PCI_CFG_SPACE_EXP_SIZE, PCI_ECAM_BUS_SIZE, PCI_FUNCTIONS } from '../abi/pci.ts'
import type { Registers } from '../event/index.ts'
import type { ConfigAddress, PciBus } from './bus.ts'

const SLOT_SIZE = PCI_CFG_SPACE_EXP_SIZE * PCI_FUNCTIONS

/** The window of one bus, as long as MCFG says for one. Its first byte is that of the bus's slot 0. */
export class Ecam implements Registers {
  readonly size = PCI_ECAM_BUS_SIZE
  readonly #bus: PciBus

  constructor(bus: PciBus) {
    this.#bus = bus
  }

  read(offset: number, width: number): number {
    return this.#bus.readConfig(this.#find(offset), width)
  }

  write(offset: number, width: number, value: number): void {
    this.#bus.writeConfig(this.#find(offset), width, value)
  }

  #find(offset: number): ConfigAddress {
    return {
      bus: this.#bus.number,
      slot: Math.floor(offset / SLOT_SIZE),
      function: Math.floor(offset / PCI_CFG_SPACE_EXP_SIZE) % PCI_FUNCTIONS,
      offset: offset % PCI_CFG_SPACE_EXP_SIZE,
    }
  }
}
