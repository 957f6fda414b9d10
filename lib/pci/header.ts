// The header of a function's configuration space, of type 0 (PCI 3.0 sections 6.1 and 6.2).

import {
  PCI_COMMAND,
  PCI_HEADER,
  PCI_INTERRUPT_PIN_INTA,
  PCI_STATUS,
  PCI_STD_HEADER_SIZEOF,
  PCI_STD_NUM_BARS,
} from '../abi/pci.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkInteger } from '../options.ts'
import type { PciBar } from './bar.ts'
import type { ConfigPart } from './config-part.ts'

export interface PciIdentity {
  vendorId: number
  deviceId: number
  /** Default 0. */
  revision?: number
  /** Base class, sub-class and programming interface: 0x020000 is an Ethernet controller. */
  classCode: number
  /** Default 0. */
  subsystemVendorId?: number
  /** Default 0. */
  subsystemId?: number
}

/** What a guest may write: command bits of what there is, base addresses above their size, and the interrupt line. */
export class Header implements ConfigPart {
  readonly bytes = new Uint8Array(PCI_STD_HEADER_SIZEOF)
  readonly writable = new Uint8Array(PCI_STD_HEADER_SIZEOF)
  readonly #view = new DataView(this.bytes.buffer)
  readonly #changed: () => void

  /** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT` of two BARs */
  constructor(identity: PciIdentity, bars: readonly PciBar[], { pin }: { pin: boolean }, changed: () => void) {
    this.#changed = changed
    this.#identify(identity)
    const { PCI_COMMAND_MEMORY, PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE } = PCI_COMMAND
    const command = (bars.length > 0 ? PCI_COMMAND_MEMORY : 0) | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE
    const mask = new DataView(this.writable.buffer)
    mask.setUint16(PCI_HEADER.PCI_COMMAND, command, true)
    this.bytes[PCI_HEADER.PCI_INTERRUPT_PIN] = pin ? PCI_INTERRUPT_PIN_INTA : 0
    this.writable[PCI_HEADER.PCI_INTERRUPT_LINE] = 0xff
    const taken = new Set<number>()
    for (const { index, wide, flags, mask: bits } of bars) {
      for (const register of wide ? [index, index + 1] : [index]) {
        if (taken.has(register) || register >= PCI_STD_NUM_BARS) {
          throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'bars', `two of them take register ${register}`)
        }
        taken.add(register)
      }
      const at = barOffset(index)
      this.#view.setUint32(at, flags, true)
      if (wide) mask.setBigUint64(at, bits, true)
      else mask.setUint32(at, Number(bits), true)
    }
  }

  #identify({ vendorId, deviceId, classCode, ...rest }: PciIdentity): void {
    const half = (value: unknown, option: string): number => checkInteger(value, option, 0, 0xffff, 0)
    // An id of ones is what is read where there is no function.
    this.#view.setUint16(PCI_HEADER.PCI_VENDOR_ID, checkInteger(vendorId, 'vendorId', 0, 0xfffe), true)
    this.#view.setUint16(PCI_HEADER.PCI_DEVICE_ID, checkInteger(deviceId, 'deviceId', 0, 0xffff), true)
    const revision = checkInteger(rest.revision, 'revision', 0, 0xff, 0)
    const code = checkInteger(classCode, 'classCode', 0, 0xff_ffff)
    this.#view.setUint32(PCI_HEADER.PCI_REVISION_ID, code * 256 + revision, true)
    this.#view.setUint16(PCI_HEADER.PCI_SUBSYSTEM_VENDOR_ID, half(rest.subsystemVendorId, 'subsystemVendorId'), true)
    this.#view.setUint16(PCI_HEADER.PCI_SUBSYSTEM_ID, half(rest.subsystemId, 'subsystemId'), true)
  }

  get command(): number {
    return this.#view.getUint16(PCI_HEADER.PCI_COMMAND, true)
  }

  /** What the registers of a BAR have as address. */
  address({ index, wide, mask }: PciBar): bigint {
    const at = barOffset(index)
    return (wide ? this.#view.getBigUint64(at, true) : BigInt(this.#view.getUint32(at, true))) & mask
  }

  /** Where the first capability is. */
  set capabilities(offset: number) {
    this.bytes[PCI_HEADER.PCI_CAPABILITY_LIST] = offset
    this.#setStatus(PCI_STATUS.PCI_STATUS_CAP_LIST, offset !== 0)
  }

  set interruptStatus(asserted: boolean) {
    this.#setStatus(PCI_STATUS.PCI_STATUS_INTERRUPT, asserted)
  }

  #setStatus(bit: number, set: boolean): void {
    const status = this.#view.getUint16(PCI_HEADER.PCI_STATUS, true)
    this.#view.setUint16(PCI_HEADER.PCI_STATUS, set ? status | bit : status & ~bit, true)
  }

  onWrite(): void {
    this.#changed()
  }

  onReset(): void {
    for (const [i, mask] of this.writable.entries()) this.bytes[i] = this.bytes[i]! & ~mask
    this.#changed()
  }
}

function barOffset(index: number): number {
  return PCI_HEADER.PCI_BASE_ADDRESS_0 + 4 * index
}
