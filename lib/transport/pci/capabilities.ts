// Virtio's capabilities in the configuration space of a PCI function: where its structures lie (virtio 1.x section 4.1.4).

import { PCI_CAP_ID } from '../../abi/pci.ts'
import { VIRTIO_PCI_CAP_LAYOUT } from '../../abi/virtio-pci.ts'
import type { PciCapability } from '../../pci/index.ts'

/** Where a structure lies. */
export interface StructurePlace {
  /** VIRTIO_PCI_CAP_* */
  readonly type: number
  readonly bar: number
  /** Bytes from the first one behind the BAR. */
  readonly offset: number
  /** Bytes. */
  readonly length: number
}

/** @param extra bytes that follow the fields which all of them have. */
export function virtioCapability({ type, bar, offset, length }: StructurePlace, extra = 0): PciCapability {
  const { size } = VIRTIO_PCI_CAP_LAYOUT
  const bytes = new Uint8Array(size + extra)
  const view = new DataView(bytes.buffer)
  view.setUint8(VIRTIO_PCI_CAP_LAYOUT.cap_len, bytes.length)
  view.setUint8(VIRTIO_PCI_CAP_LAYOUT.cfg_type, type)
  view.setUint8(VIRTIO_PCI_CAP_LAYOUT.bar, bar)
  view.setUint32(VIRTIO_PCI_CAP_LAYOUT.offset, offset, true)
  view.setUint32(VIRTIO_PCI_CAP_LAYOUT.length, length, true)
  return { id: PCI_CAP_ID.PCI_CAP_ID_VNDR, bytes, writable: new Uint8Array(bytes.length) }
}

/** Of the doorbells (section 4.1.4.4). @param multiplier bytes from one to the next */
export function notifyCapability(place: StructurePlace, multiplier: number): PciCapability {
  const { size, notify_size, notify_off_multiplier } = VIRTIO_PCI_CAP_LAYOUT
  const capability = virtioCapability(place, notify_size - size)
  new DataView(capability.bytes.buffer).setUint32(notify_off_multiplier, multiplier, true)
  return capability
}
