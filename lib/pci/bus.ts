// A PCI bus: functions in slots that are filled and emptied at run time.

import { PCI_SLOTS } from '../abi/pci.ts'
import { InvalidOptionError } from '../errors.ts'
import type { MemorySpace } from '../event/index.ts'
import { checkInteger } from '../options.ts'
import { allOnes } from './config-part.ts'
import type { PciFunction, PciFunctionState } from './function.ts'

/** Which function's configuration space, and where in it. */
export interface ConfigAddress {
  readonly bus: number
  /** 0..31 */
  readonly slot: number
  /** 0..7 */
  readonly function: number
  /** Bytes. */
  readonly offset: number
}

/**
 * One bus, with one function in each device: function 0. Guests reach it by {@link ConfigPorts} and {@link Ecam}. What is
 * in no slot reads as ones.
 */
export class PciBus {
  readonly number: number
  readonly #memory: MemorySpace
  readonly #slots = new Map<number, PciFunction>()

  /**
   * @param memory where the functions' registers are mapped as the guest places them
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   */
  constructor(memory: MemorySpace, number = 0) {
    this.number = checkInteger(number, 'number', 0, 255)
    this.#memory = memory
  }

  /**
   * Puts a function into a slot. It is as after a reset of the bus: lies nowhere, until the guest has placed it.
   * @param slot 0..31
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT` where the slot is taken
   */
  plug(slot: number, pciFunction: PciFunction): void {
    checkInteger(slot, 'slot', 0, PCI_SLOTS - 1)
    if (this.#slots.has(slot)) throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'slot', `${slot} is taken`)
    pciFunction.reset()
    pciFunction.space = this.#memory
    this.#slots.set(slot, pciFunction)
  }

  /** Takes it out: its registers lie nowhere from then on. Nothing happens where the slot is empty. */
  unplug(slot: number): void {
    const pciFunction = this.#slots.get(slot)
    if (pciFunction === undefined) return
    this.#slots.delete(slot)
    pciFunction.space = undefined
  }

  /** The function in a slot; undefined where it is empty. */
  at(slot: number): PciFunction | undefined {
    return this.#slots.get(slot)
  }

  /** RST#: every function is as it was at first, and so is the device behind it. */
  reset(): void {
    for (const pciFunction of this.#slots.values()) pciFunction.reset()
  }

  readConfig(address: ConfigAddress, width: number): number {
    return this.#find(address)?.read(address.offset, width) ?? allOnes(width)
  }

  writeConfig(address: ConfigAddress, width: number, value: number): void {
    this.#find(address)?.write(address.offset, width, value)
  }

  #find({ bus, slot, function: number }: ConfigAddress): PciFunction | undefined {
    return bus === this.number && number === 0 ? this.#slots.get(slot) : undefined
  }

  /** What is in each slot now. */
  inspect(): Record<number, PciFunctionState> {
    return Object.fromEntries([...this.#slots].map(([slot, pciFunction]) => [slot, pciFunction.inspect()]))
  }
}
