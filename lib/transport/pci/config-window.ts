// The way to a function's registers through its configuration space, for who cannot reach memory yet: firmware
// (virtio 1.x section 4.1.4.9).

import { PCI_CAP_ID } from '../../abi/pci.ts'
import { VIRTIO_PCI_CAP, VIRTIO_PCI_CAP_LAYOUT } from '../../abi/virtio-pci.ts'
import type { Registers } from '../../event/index.ts'
import type { PciCapability } from '../../pci/index.ts'
import { virtioCapability } from './capabilities.ts'

const { bar: BAR, offset: OFFSET, length: LENGTH, pci_cfg_data: DATA, pci_cfg_size: SIZE } = VIRTIO_PCI_CAP_LAYOUT

/**
 * A driver chooses bar, offset and length in the capability, and every access of `pci_cfg_data` is one of the registers
 * there, whether or not memory is decoded. Where what it chose is none of the structures' BAR, not of 1, 2 or 4 bytes,
 * not aligned, or beyond the end, it reads 0 and writes nothing.
 */
export class ConfigWindow implements PciCapability {
  readonly id = PCI_CAP_ID.PCI_CAP_ID_VNDR
  readonly bytes: Uint8Array
  readonly writable: Uint8Array
  readonly #view: DataView
  readonly #bar: number
  readonly #registers: Registers

  constructor(bar: number, registers: Registers) {
    const type = VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_PCI_CFG
    const { bytes, writable } = virtioCapability({ type, bar: 0, offset: 0, length: 0 }, SIZE - DATA)
    writable[BAR] = 0xff
    writable.fill(0xff, OFFSET)
    this.bytes = bytes
    this.writable = writable
    this.#view = new DataView(bytes.buffer)
    this.#bar = bar
    this.#registers = registers
  }

  onRead(offset: number): void {
    if (offset < DATA) return
    const { at, length } = this.#chosen()
    const value = at === undefined ? 0 : this.#registers.read(at, length)
    this.#view.setUint32(DATA, value, true)
  }

  onWrite(offset: number): void {
    if (offset < DATA) return
    const { at, length } = this.#chosen()
    if (at === undefined) return
    const value = this.#view.getUint32(DATA, true)
    this.#registers.write(at, length, length === 4 ? value : value % 2 ** (8 * length))
  }

  onReset(): void {
    for (const [i, mask] of this.writable.entries()) this.bytes[i] = this.bytes[i]! & ~mask
  }

  #chosen(): { at: number | undefined; length: number } {
    const at = this.#view.getUint32(OFFSET, true)
    const length = this.#view.getUint32(LENGTH, true)
    const isWidth = length === 1 || length === 2 || length === 4
    const inside = isWidth && at % length === 0 && at + length <= this.#registers.size
    return { at: inside && this.bytes[BAR] === this.#bar ? at : undefined, length }
  }
}
