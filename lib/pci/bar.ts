// A base address register: where a window of a function's registers lies in memory (PCI 3.0 section 6.2.5).

import { PCI_BASE_ADDRESS, PCI_BASE_ADDRESS_MEM_FLAGS, PCI_STD_NUM_BARS } from '../abi/pci.ts'
import type { MemorySpace, Registers } from '../event/index.ts'
import { checkInteger, checkPowerOfTwo } from '../options.ts'

/** Where no processor has memory: x86 has physical addresses of 52 bits at most. */
const ADDRESSES = 2n ** 52n
const BELOW_4G = 2n ** 32n

export interface PciBarOptions {
  /** 0..5. One of 64 bits takes the register behind it, too. */
  index: number
  /** What lies there: a power of two of bytes, 16 at least. */
  registers: Registers
  /** Whether it has 64 bits. Default false. */
  wide?: boolean
  /** Whether reading has no effect and writes may be merged. Default false. */
  prefetchable?: boolean
  /** Called when it lies elsewhere: once it is there, or, where `address` is undefined, nowhere. */
  onPlace?: (address: number | undefined) => void
}

export class PciBar {
  readonly index: number
  readonly registers: Registers
  readonly wide: boolean
  /** What the register reads besides the address. */
  readonly flags: number
  /** Bits of the address that can be written: those above the size, which a guest finds out by that. */
  readonly mask: bigint
  readonly #onPlace: ((address: number | undefined) => void) | undefined
  #space: MemorySpace | undefined
  #address: number | undefined
  #unmap: (() => void) | undefined

  /** @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
  constructor({ index, registers, wide = false, prefetchable = false, onPlace }: PciBarOptions) {
    checkInteger(index, 'bars.index', 0, PCI_STD_NUM_BARS - (wide ? 2 : 1))
    const size = checkPowerOfTwo(registers.size, 'bars.registers.size', PCI_BASE_ADDRESS_MEM_FLAGS + 1, 2 ** 31)
    const { PCI_BASE_ADDRESS_MEM_TYPE_64, PCI_BASE_ADDRESS_MEM_PREFETCH } = PCI_BASE_ADDRESS
    this.index = index
    this.registers = registers
    this.wide = wide
    this.flags = (wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) | (prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0)
    this.mask = BigInt.asUintN(wide ? 64 : 32, -BigInt(size))
    this.#onPlace = onPlace
  }

  /** Guest-physical; undefined while it lies nowhere. */
  get address(): number | undefined {
    return this.#address
  }

  /** Where windows can be mapped from now on; undefined for nowhere. */
  set space(space: MemorySpace | undefined) {
    this.place(undefined)
    this.#space = space
  }

  /** @param address as the register has it; undefined where the function does not decode memory. */
  place(address: bigint | undefined): void {
    const space = this.#space
    const next = space !== undefined && address !== undefined && this.#decodes(address) ? Number(address) : undefined
    if (next === this.#address) return
    this.#unmap?.()
    this.#unmap = next === undefined ? undefined : space?.map(next, this.registers)
    this.#address = next
    this.#onPlace?.(next)
  }

  /**
   * Not at 0, where a register is that nobody has written yet; not up to 4 GiB, where one is that is being sized, with
   * decoding left on (QEMU's hw/pci/pci.c, pci_bar_address, has both); and not where no processor reaches.
   */
  #decodes(address: bigint): boolean {
    const end = address + BigInt(this.registers.size)
    return address !== 0n && end !== BELOW_4G && end <= ADDRESSES
  }
}
