// A PCI function: its configuration space, where its registers lie in memory, and its interrupt pin.

import {
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CFG_SPACE_SIZE,
  PCI_COMMAND,
  PCI_STD_HEADER_SIZEOF,
} from '../abi/pci.ts'
import { InvalidOptionError } from '../errors.ts'
import type { InterruptPin, MemorySpace, Registers } from '../event/index.ts'
import { PciBar, type PciBarOptions } from './bar.ts'
import { allOnes, type ConfigPart, isConfigAccess, type PciCapability, readBytes, writeBytes } from './config-part.ts'
import { Header, type PciIdentity } from './header.ts'

export interface PciFunctionOptions extends PciIdentity {
  /** Memory at which its registers can be placed. Default none. */
  bars?: readonly PciBarOptions[]
  /** In the order in which a guest finds them. Default none. */
  capabilities?: readonly PciCapability[]
  /** INTA#. Default none. */
  pin?: InterruptPin
  /** Called once the command register is another one. */
  onCommand?: (command: number, before: number) => void
  /** Called when the bus is reset, before the configuration space is as it was at first. */
  onReset?: () => void
}

/** What a function is now; JSON-safe. */
export interface PciFunctionState {
  vendorId: number
  deviceId: number
  command: number
  /** By BAR: where it lies, null while it lies nowhere. */
  bars: Record<number, number | null>
  /** Whether it asks for an interrupt by its pin. */
  interrupt: boolean
}

/**
 * A conventional function with a header of type 0. It is the window of its configuration space: accesses that no bus can
 * ask for at once read as ones, what lies behind the header and the capabilities reads 0.
 */
export class PciFunction implements Registers {
  /** Bytes, as ECAM has them; a conventional function has 256, and nothing in the others. */
  readonly size = PCI_CFG_SPACE_EXP_SIZE
  readonly bars: readonly PciBar[]
  readonly #header: Header
  readonly #parts: ConfigPart[] = []
  /** By offset of each 4 bytes: which part they are of, and from where on. No access lies across two of them. */
  readonly #places = new Map<number, { part: ConfigPart; at: number }>()
  readonly #pin: InterruptPin | undefined
  readonly #onCommand: ((command: number, before: number) => void) | undefined
  readonly #onReset: (() => void) | undefined
  #command = 0
  #plugged = false
  #interrupt = false
  #pinHeld = false
  #closed = false

  /** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT` */
  constructor({ bars = [], capabilities = [], pin, onCommand, onReset, ...identity }: PciFunctionOptions) {
    this.bars = bars.map((options) => new PciBar(options))
    this.#header = new Header(identity, this.bars, { pin: pin !== undefined }, () => this.#headerChanged())
    this.#pin = pin
    this.#onCommand = onCommand
    this.#onReset = onReset
    this.#add(0, this.#header)
    this.#chain(capabilities)
  }

  #chain(capabilities: readonly PciCapability[]): void {
    let at = PCI_STD_HEADER_SIZEOF
    for (const [i, capability] of capabilities.entries()) {
      const { id, bytes } = capability
      const next = at + Math.ceil(bytes.length / 4) * 4
      if (next > PCI_CFG_SPACE_SIZE) {
        throw new InvalidOptionError('ERR_OPTION_RANGE', 'capabilities', `must end before byte ${PCI_CFG_SPACE_SIZE}`)
      }
      bytes[PCI_CAP_LIST_ID] = id
      bytes[PCI_CAP_LIST_NEXT] = i === capabilities.length - 1 ? 0 : next
      this.#add(at, capability)
      at = next
    }
    this.#header.capabilities = capabilities.length > 0 ? PCI_STD_HEADER_SIZEOF : 0
  }

  #add(offset: number, part: ConfigPart): void {
    this.#parts.push(part)
    for (let at = 0; at < part.bytes.length; at += 4) this.#places.set(offset + at, { part, at })
  }

  read(offset: number, width: number): number {
    if (this.#closed || !isConfigAccess(offset, width) || offset < 0 || offset >= this.size) return allOnes(width)
    const place = this.#places.get(offset - (offset % 4))
    if (place === undefined) return 0
    const { part } = place
    const at = place.at + (offset % 4)
    part.onRead?.(at, width)
    return readBytes(part.bytes, at, width)
  }

  write(offset: number, width: number, value: number): void {
    if (this.#closed || !isConfigAccess(offset, width)) return
    const place = this.#places.get(offset - (offset % 4))
    if (place === undefined) return
    const { part } = place
    const at = place.at + (offset % 4)
    writeBytes(part, at, width, value)
    part.onWrite?.(at, width)
  }

  #headerChanged(): void {
    const { command } = this.#header
    const before = this.#command
    this.#command = command
    const decodes = (command & PCI_COMMAND.PCI_COMMAND_MEMORY) !== 0
    for (const bar of this.bars) bar.place(decodes ? this.#header.address(bar) : undefined)
    this.#drivePin()
    if (command !== before) this.#onCommand?.(command, before)
  }

  /** Whether it asks for an interrupt: the status bit, and the pin unless the guest has disabled that. */
  set interrupt(asserted: boolean) {
    this.#interrupt = asserted
    this.#header.interruptStatus = asserted
    this.#drivePin()
  }

  #drivePin(): void {
    const held = this.#plugged && this.#interrupt && (this.#command & PCI_COMMAND.PCI_COMMAND_INTX_DISABLE) === 0
    if (held === this.#pinHeld) return
    this.#pinHeld = held
    this.#pin?.set(held)
  }

  /** Where its registers can be mapped: it is on a bus. Undefined where it is not, and lets its pin go. */
  set space(space: MemorySpace | undefined) {
    this.#plugged = space !== undefined
    for (const bar of this.bars) bar.space = space
    this.#headerChanged()
  }

  /** RST#: everything that a guest wrote is gone. */
  reset(): void {
    this.#onReset?.()
    for (const part of this.#parts) part.onReset?.()
  }

  /** What it is now. */
  inspect(): PciFunctionState {
    const [vendorId, deviceId] = [readBytes(this.#header.bytes, 0, 2), readBytes(this.#header.bytes, 2, 2)]
    return {
      vendorId,
      deviceId,
      command: this.#command,
      bars: Object.fromEntries(this.bars.map(({ index, address }) => [index, address ?? null])),
      interrupt: this.#interrupt,
    }
  }

  /** Its registers lie nowhere, its pin is let go, and it reads as if it were not there. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.space = undefined
  }
}
