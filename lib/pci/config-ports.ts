// Configuration mechanism #1: x86's way to configuration space by two ports (PCI 3.0 section 3.2.2.3.2).

import { PCI_CFG_SPACE_SIZE, PCI_CONFIG_ENABLE, PCI_CONFIG_PORTS, PCI_CONFIG_PORTS_SIZE } from '../abi/pci.ts'
import { ConfigAddressRegister, type NativePart, type Registers } from '../event/index.ts'
import type { PciBus } from './bus.ts'
import { allOnes } from './config-part.ts'

const { CONFIG_ADDRESS, CONFIG_DATA } = PCI_CONFIG_PORTS

/**
 * The ports 0xcf8 to 0xcff. CONFIG_ADDRESS takes accesses of 32 bits; smaller ones there are not its own, and read as ones.
 * An access of CONFIG_DATA has as many bytes of configuration space as it has itself.
 */
export class ConfigPorts implements Registers {
  readonly size = PCI_CONFIG_PORTS_SIZE
  readonly nativePart: NativePart
  readonly #bus: PciBus
  readonly #address = new ConfigAddressRegister()

  constructor(bus: PciBus) {
    this.#bus = bus
    this.nativePart = { offset: CONFIG_ADDRESS, registers: this.#address }
  }

  read(offset: number, width: number): number {
    if (offset === CONFIG_ADDRESS) return this.#address.read(width)
    const address = this.#find(offset, width)
    return address === undefined ? allOnes(width) : this.#bus.readConfig(address, width)
  }

  write(offset: number, width: number, value: number): void {
    if (offset === CONFIG_ADDRESS) {
      this.#address.write(width, value)
      return
    }
    const address = this.#find(offset, width)
    if (address !== undefined) this.#bus.writeConfig(address, width, value)
  }

  #find(offset: number, width: number) {
    const address = this.#address.read(4)
    const enabled = (address & PCI_CONFIG_ENABLE) !== 0
    if (!enabled || offset < CONFIG_DATA || offset + width > PCI_CONFIG_PORTS_SIZE) return undefined
    return {
      bus: (address >>> 16) & 0xff,
      slot: (address >>> 11) & 0x1f,
      function: (address >>> 8) & 7,
      offset: (address % PCI_CFG_SPACE_SIZE) + (offset - CONFIG_DATA),
    }
  }

  close(): void {
    this.#address.close()
  }
}
