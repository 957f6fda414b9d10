// Placing a PCI function's registers in memory: what firmware or a kernel does before a driver sees it (PCI 3.0 section 6.2.5).

import { PCI_BASE_ADDRESS, PCI_BASE_ADDRESS_MEM_FLAGS, PCI_COMMAND, PCI_HEADER, PCI_STD_NUM_BARS } from '../abi/pci.ts'
import type { Registers } from '../event/index.ts'

const { PCI_BASE_ADDRESS_SPACE_IO: IO, PCI_BASE_ADDRESS_MEM_TYPE_MASK: TYPE } = PCI_BASE_ADDRESS
const { PCI_BASE_ADDRESS_MEM_TYPE_64: WIDE } = PCI_BASE_ADDRESS

/** A BAR of memory as a guest finds it. */
export interface FoundBar {
  readonly index: number
  readonly wide: boolean
  /** Guest-physical; 0 where nobody has placed it. */
  readonly address: bigint
}

/** The BARs of memory of a function. */
export function findBars(config: Registers): FoundBar[] {
  const found: FoundBar[] = []
  for (let index = 0; index < PCI_STD_NUM_BARS; index++) {
    const low = config.read(at(index), 4)
    if (low & IO) continue
    const wide = (low & TYPE) === WIDE
    const high = wide && index + 1 < PCI_STD_NUM_BARS ? config.read(at(index + 1), 4) : 0
    found.push({ index, wide, address: (BigInt(high) << 32n) | BigInt((low & ~PCI_BASE_ADDRESS_MEM_FLAGS) >>> 0) })
    if (wide) index++
  }
  return found
}

/**
 * Places the BARs of a function one behind the other, each at a multiple of its size, and lets it decode memory and use it.
 * @param from guest-physical address, below 4 GiB with room up to there where a BAR has 32 bits
 * @returns the first address behind them
 */
export function placeBars(config: Registers, from: number): number {
  const command = config.read(PCI_HEADER.PCI_COMMAND, 2)
  const { PCI_COMMAND_MEMORY: MEMORY, PCI_COMMAND_MASTER: MASTER } = PCI_COMMAND
  config.write(PCI_HEADER.PCI_COMMAND, 2, command & ~MEMORY)
  let next = from
  for (const { index, wide } of findBars(config)) {
    const size = sizeOf(config, index)
    if (size === 0) continue
    const address = Math.ceil(next / size) * size
    config.write(at(index), 4, address % 2 ** 32)
    if (wide) config.write(at(index + 1), 4, Math.floor(address / 2 ** 32))
    next = address + size
  }
  config.write(PCI_HEADER.PCI_COMMAND, 2, command | MEMORY | MASTER)
  return next
}

/** Bytes, which stand in the low half: no BAR here is larger than 2 GiB. 0 where there is none. */
function sizeOf(config: Registers, index: number): number {
  config.write(at(index), 4, 0xffff_ffff)
  const mask = config.read(at(index), 4) & ~PCI_BASE_ADDRESS_MEM_FLAGS
  return -mask >>> 0
}

function at(index: number): number {
  return PCI_HEADER.PCI_BASE_ADDRESS_0 + 4 * index
}
