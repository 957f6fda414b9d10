// Configuration mechanism #1: x86's way to configuration space by two ports (PCI 3.0 section 3.2.2.3.2).

import { PCI_CFG_SPACE_SIZE, PCI_CONFIG_ENABLE, PCI_CONFIG_PORTS, PCI_CONFIG_PORTS_SIZE } from '../abi/pci.ts'
import type { Registers } from '../event/index.ts'
import type { PciBus } from './bus.ts'
import { allOnes } from './config-part.ts'

const { CONFIG_ADDRESS, CONFIG_DATA } = PCI_CONFIG_PORTS
/** Bits of CONFIG_ADDRESS that can be written; the others are 0. */
const ADDRESS_BITS = 0x80ff_fffc

/**
 * The ports 0xcf8 to 0xcff. CONFIG_ADDRESS takes accesses of 32 bits; smaller ones there are not its own, and read as ones.
 * An access of CONFIG_DATA has as many bytes of configuration space as it has itself.
 */
export class ConfigPorts implements Registers {
  readonly size = PCI_CONFIG_PORTS_SIZE
  readonly #bus: PciBus
  #address = 0

  constructor(bus: PciBus) {
    this.#bus = bus
  }

  read(offset: number, width: number): number {
    if (offset === CONFIG_ADDRESS && width === 4) return this.#address
    const address = this.#find(offset, width)
    return address === undefined ? allOnes(width) : this.#bus.readConfig(address, width)
  }

  write(offset: number, width: number, value: number): void {
    if (offset === CONFIG_ADDRESS && width === 4) {
      this.#address = (value & ADDRESS_BITS) >>> 0
      return
    }
    const address = this.#find(offset, width)
    if (address !== undefined) this.#bus.writeConfig(address, width, value)
  }

  #find(offset: number, width: number) {
    const enabled = (this.#address & PCI_CONFIG_ENABLE) !== 0
    if (!enabled || offset < CONFIG_DATA || offset + width > PCI_CONFIG_PORTS_SIZE) return undefined
    return {
      bus: (this.#address >>> 16) & 0xff,
      slot: (this.#address >>> 11) & 0x1f,
      function: (this.#address >>> 8) & 7,
      offset: (this.#address % PCI_CFG_SPACE_SIZE) + (offset - CONFIG_DATA),
    }
  }
}
