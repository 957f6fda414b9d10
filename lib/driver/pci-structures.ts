// Where the structures of a virtio device lie, as its capabilities say it (virtio 1.x section 4.1.4).

import {
  PCI_CAP_ID,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CFG_SPACE_SIZE,
  PCI_HEADER,
  PCI_STATUS,
  PCI_STD_HEADER_SIZEOF,
} from '../abi/pci.ts'
import { VIRTIO_PCI_CAP, VIRTIO_PCI_CAP_LAYOUT } from '../abi/virtio-pci.ts'
import type { Registers } from '../event/index.ts'
import { findBars } from './pci-bars.ts'

/** A structure behind a BAR. */
export interface Structure {
  /** Guest-physical address. */
  readonly address: number
  /** Bytes that the device says it has: any number, of which a driver uses what it knows. */
  readonly length: number
}

export interface Structures {
  readonly common: Structure
  readonly notify: Structure & { readonly multiplier: number }
  readonly isr: Structure
  /** Of a device with a configuration. */
  readonly device: Structure | undefined
  /** Where the MSI-X capability is, of a device that has one. */
  readonly msix: number | undefined
}

/** The fields before queue_notif_config_data, which every device has. */
const LEAST_COMMON = 56
const LEAST: ReadonlyMap<number, number> = new Map([
  [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_COMMON_CFG, LEAST_COMMON],
  [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_NOTIFY_CFG, 2],
  [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_ISR_CFG, 1],
  [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_DEVICE_CFG, 1],
])
/** As many as have room. */
const MOST_CAPABILITIES = (PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) / 4

/** Offsets of all capabilities, with their ids. */
export function* capabilities(config: Registers): Generator<{ at: number; id: number }> {
  if ((config.read(PCI_HEADER.PCI_STATUS, 2) & PCI_STATUS.PCI_STATUS_CAP_LIST) === 0) return
  let next = config.read(PCI_HEADER.PCI_CAPABILITY_LIST, 1)
  for (let i = 0; i < MOST_CAPABILITIES; i++) {
    const at = next & ~3
    if (at < PCI_STD_HEADER_SIZEOF) return
    yield { at, id: config.read(at + PCI_CAP_LIST_ID, 1) }
    next = config.read(at + PCI_CAP_LIST_NEXT, 1)
  }
}

/**
 * The first usable one of each type; undefined where one that every device has is missing. Types that this driver does
 * not know are passed over, among them shared memory, vendors' data, and the window to the registers, which it needs not.
 */
export function findStructures(config: Registers): Structures | undefined {
  const places = new Map(findBars(config).map(({ index, address }) => [index, address]))
  const found = new Map<number, Structure & { at: number }>()
  let msix: number | undefined
  for (const { at, id } of capabilities(config)) {
    if (id === PCI_CAP_ID.PCI_CAP_ID_MSIX) msix ??= at
    if (id !== PCI_CAP_ID.PCI_CAP_ID_VNDR) continue
    const type = config.read(at + VIRTIO_PCI_CAP_LAYOUT.cfg_type, 1)
    const least = LEAST.get(type)
    if (least === undefined || found.has(type)) continue
    const length = config.read(at + VIRTIO_PCI_CAP_LAYOUT.length, 4)
    const base = places.get(config.read(at + VIRTIO_PCI_CAP_LAYOUT.bar, 1))
    if (length < least || base === undefined || base === 0n || base > BigInt(Number.MAX_SAFE_INTEGER)) continue
    found.set(type, { at, address: Number(base) + config.read(at + VIRTIO_PCI_CAP_LAYOUT.offset, 4), length })
  }
  const common = found.get(VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_COMMON_CFG)
  const notify = found.get(VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_NOTIFY_CFG)
  const isr = found.get(VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_ISR_CFG)
  if (common === undefined || notify === undefined || isr === undefined) return undefined
  const multiplier = config.read(notify.at + VIRTIO_PCI_CAP_LAYOUT.notify_off_multiplier, 4)
  const device = found.get(VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_DEVICE_CFG)
  return { common, notify: { ...notify, multiplier }, isr, device, msix }
}
