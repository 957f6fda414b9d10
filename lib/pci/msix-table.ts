// The MSI-X table as a guest writes it: a message and a mask bit for each vector (PCI 3.0 section 6.8.2.6 on).

import { PCI_MSIX_ENTRY, PCI_MSIX_ENTRY_CTRL_MASKBIT, PCI_MSIX_ENTRY_SIZE } from '../abi/pci.ts'
import type { Message, Registers } from '../event/index.ts'

/** Bits of each field that can be written: messages are aligned to 4 bytes, and a vector has one control bit. */
const WRITABLE = new Map<number, number>([
  [PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_LOWER_ADDR, 0xffff_fffc],
  [PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_UPPER_ADDR, 0xffff_ffff],
  [PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_DATA, 0xffff_ffff],
  [PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT],
])

/** Takes aligned accesses of 32 bits: of others only those of 64 are defined (section 6.8.2), which buses cut in two. */
export class MsixTable implements Registers {
  readonly size: number
  readonly #view: DataView
  readonly #onMask: (vector: number) => void

  /** @param onMask called when the mask bit of a vector is another one */
  constructor(vectors: number, onMask: (vector: number) => void) {
    this.size = vectors * PCI_MSIX_ENTRY_SIZE
    this.#view = new DataView(new ArrayBuffer(this.size))
    this.#onMask = onMask
    this.reset()
  }

  /** Masks every vector, and forgets the messages, without a call of `onMask`. */
  reset(): void {
    new Uint8Array(this.#view.buffer).fill(0)
    for (let at = 0; at < this.size; at += PCI_MSIX_ENTRY_SIZE) {
      this.#view.setUint32(at + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT, true)
    }
  }

  isMasked(vector: number): boolean {
    const control = vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_VECTOR_CTRL
    return (this.#view.getUint32(control, true) & PCI_MSIX_ENTRY_CTRL_MASKBIT) !== 0
  }

  message(vector: number): Message {
    const entry = vector * PCI_MSIX_ENTRY_SIZE
    return {
      address: this.#view.getBigUint64(entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_LOWER_ADDR, true),
      data: this.#view.getUint32(entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_DATA, true),
    }
  }

  read(offset: number, width: number): number {
    return isAligned(offset, width) ? this.#view.getUint32(offset, true) : 0
  }

  write(offset: number, width: number, value: number): void {
    if (!isAligned(offset, width)) return
    const field = offset % PCI_MSIX_ENTRY_SIZE
    const vector = (offset - field) / PCI_MSIX_ENTRY_SIZE
    const masked = this.isMasked(vector)
    this.#view.setUint32(offset, value & WRITABLE.get(field)!, true)
    if (this.isMasked(vector) !== masked) this.#onMask(vector)
  }
}

function isAligned(offset: number, width: number): boolean {
  return width === 4 && offset % 4 === 0
}
