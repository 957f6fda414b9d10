// A configuration space that reads what a test makes of it, and memory with a witness.

import { PCI_CAP_ID, PCI_COMMAND, PCI_HEADER, PCI_MSIX, PCI_STATUS, PCI_STD_HEADER_SIZEOF } from '../../lib/abi/pci.ts'
import { VIRTIO_PCI_CAP, VIRTIO_PCI_CAP_LAYOUT } from '../../lib/abi/virtio-pci.ts'
import { LocalMemorySpace } from '../../lib/driver/index.ts'
import type { Access } from './watched-registers.ts'
import { WatchedRegisters } from './watched-registers.ts'

/** Memory whose accesses are noted, by address. */
export class WatchedSpace extends LocalMemorySpace {
  readonly log: Access[] = []
  /** Called before each access; what it returns is read instead. */
  onAccess: ((access: Omit<Access, 'value'> & { value?: number }) => number | undefined) | undefined

  override read(address: number, width: number): number {
    const value = this.onAccess?.({ what: 'read', offset: address, width }) ?? super.read(address, width)
    this.log.push({ what: 'read', offset: address, width, value })
    return value
  }

  override write(address: number, width: number, value: number): void {
    this.onAccess?.({ what: 'write', offset: address, width, value })
    this.log.push({ what: 'write', offset: address, width, value })
    super.write(address, width, value)
  }
}

/** A capability of virtio, or of MSI-X where `msix` is given. */
export interface PlannedCapability {
  type?: number
  bar?: number
  offset?: number
  length?: number
  /** Bytes that it says it has, and has. */
  size?: number
  /** Instead of one of virtio: another id. */
  id?: number
  /** Vectors. */
  msix?: number
}

export const STRUCTURES: readonly PlannedCapability[] = [
  { type: VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_COMMON_CFG, offset: 0, length: 64 },
  { type: VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_NOTIFY_CFG, offset: 0x1000, length: 64, size: 20 },
  { type: VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_ISR_CFG, offset: 0x2000, length: 1 },
]

/** A function with these capabilities, and one BAR of 32 bits at 0xd0000000. */
export function plannedFunction(
  planned: readonly PlannedCapability[],
  { vendor = 0x1af4, device = 0x1041, revision = 1, subsystem = 0x40 } = {},
): WatchedRegisters {
  const bytes = new Uint8Array(256)
  const view = new DataView(bytes.buffer)
  view.setUint16(PCI_HEADER.PCI_VENDOR_ID, vendor, true)
  view.setUint16(PCI_HEADER.PCI_DEVICE_ID, device, true)
  view.setUint16(PCI_HEADER.PCI_COMMAND, PCI_COMMAND.PCI_COMMAND_MEMORY, true)
  view.setUint8(PCI_HEADER.PCI_REVISION_ID, revision)
  view.setUint16(PCI_HEADER.PCI_SUBSYSTEM_ID, subsystem, true)
  view.setUint32(PCI_HEADER.PCI_BASE_ADDRESS_0, 0xd000_0000, true)
  if (planned.length > 0) {
    view.setUint16(PCI_HEADER.PCI_STATUS, PCI_STATUS.PCI_STATUS_CAP_LIST, true)
    view.setUint8(PCI_HEADER.PCI_CAPABILITY_LIST, PCI_STD_HEADER_SIZEOF)
  }
  let at = PCI_STD_HEADER_SIZEOF
  for (const [i, { type = 0, bar = 0, offset = 0, length = 0, size = 16, id, msix }] of planned.entries()) {
    const bytesOf = msix === undefined ? size : 12
    view.setUint8(at, id ?? (msix === undefined ? PCI_CAP_ID.PCI_CAP_ID_VNDR : PCI_CAP_ID.PCI_CAP_ID_MSIX))
    view.setUint8(at + 1, i === planned.length - 1 ? 0 : at + bytesOf)
    if (msix === undefined) {
      view.setUint8(at + VIRTIO_PCI_CAP_LAYOUT.cap_len, size)
      view.setUint8(at + VIRTIO_PCI_CAP_LAYOUT.cfg_type, type)
      view.setUint8(at + VIRTIO_PCI_CAP_LAYOUT.bar, bar)
      view.setUint32(at + VIRTIO_PCI_CAP_LAYOUT.offset, offset, true)
      view.setUint32(at + VIRTIO_PCI_CAP_LAYOUT.length, length, true)
      if (size >= 20) view.setUint32(at + VIRTIO_PCI_CAP_LAYOUT.notify_off_multiplier, 4, true)
    } else {
      view.setUint16(at + PCI_MSIX.PCI_MSIX_FLAGS, msix - 1, true)
      view.setUint32(at + PCI_MSIX.PCI_MSIX_TABLE, 0x4000, true)
    }
    at += bytesOf
  }
  return new WatchedRegisters({
    size: 256,
    read: (offset, width) =>
      width === 1 ? view.getUint8(offset) : width === 2 ? view.getUint16(offset, true) : view.getUint32(offset, true),
    write: () => undefined,
  })
}
