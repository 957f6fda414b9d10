// MSI-X as a driver sets it up: a message for each vector, and which vector is whose (PCI 3.0 section 6.8.2; virtio 1.x
// section 4.1.5.1.2).

import { PCI_MSIX, PCI_MSIX_BIR, PCI_MSIX_ENTRY, PCI_MSIX_ENTRY_SIZE, PCI_MSIX_FLAGS } from '../abi/pci.ts'
import type { Registers } from '../event/index.ts'
import type { LocalMemorySpace } from './local-memory-space.ts'
import { findBars } from './pci-bars.ts'

/** Where x86 takes writes for interrupts. In this process they are known by their vector, and the message goes nowhere. */
const MESSAGE_ADDRESS = 0xfee0_0000

/** The vectors of one device: the first for its configuration, the others for its queues, as far as they go. */
export class PciMessages {
  /** How many there are. */
  readonly vectors: number
  readonly configVector = 0

  private constructor(vectors: number) {
    this.vectors = vectors
  }

  /** Switches MSI-X on, with no vector masked; undefined where the table lies nowhere. @param at of the capability */
  static enable(config: Registers, at: number, memory: LocalMemorySpace): PciMessages | undefined {
    const { PCI_MSIX_FLAGS_QSIZE, PCI_MSIX_FLAGS_ENABLE, PCI_MSIX_FLAGS_MASKALL } = PCI_MSIX_FLAGS
    const place = config.read(at + PCI_MSIX.PCI_MSIX_TABLE, 4)
    const base = findBars(config).find(({ index }) => index === (place & PCI_MSIX_BIR))?.address ?? 0n
    if (base === 0n || base > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
    const table = Number(base) + ((place & ~PCI_MSIX_BIR) >>> 0)
    const vectors = (config.read(at + PCI_MSIX.PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1
    const control = (bits: number): void => config.write(at + PCI_MSIX.PCI_MSIX_FLAGS, 2, bits)
    control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)
    for (let vector = 0; vector < vectors; vector++) {
      const entry = table + vector * PCI_MSIX_ENTRY_SIZE
      memory.write(entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_LOWER_ADDR, 4, MESSAGE_ADDRESS)
      memory.write(entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0)
      memory.write(entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_DATA, 4, vector)
      memory.write(entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0)
    }
    control(PCI_MSIX_FLAGS_ENABLE)
    return new PciMessages(vectors)
  }

  /** Queues share vectors where there are fewer than one for each, and the configuration's where there is no other. */
  queueVector(index: number): number {
    return this.vectors === 1 ? this.configVector : 1 + (index % (this.vectors - 1))
  }
}
