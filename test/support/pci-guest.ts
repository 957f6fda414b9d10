// A guest's driver over virtio-pci, register by register, for tests.

import assert from 'node:assert/strict'
import {
  PCI_CAP_ID,
  PCI_CAP_LIST_NEXT,
  PCI_COMMAND,
  PCI_HEADER,
  PCI_MSIX,
  PCI_MSIX_BIR,
  PCI_MSIX_FLAGS,
} from '../../lib/abi/pci.ts'
import { VIRTIO_CONFIG_S } from '../../lib/abi/virtio.ts'
import { VIRTIO_PCI_CAP, VIRTIO_PCI_CAP_LAYOUT, VIRTIO_PCI_COMMON } from '../../lib/abi/virtio-pci.ts'
import type { Registers } from '../../lib/event/index.ts'
import { FEATURE_WORDS } from '../../lib/virtio/features.ts'
import { featureWord, withFeatureWord } from '../../lib/virtio/index.ts'
import type { GuestRing } from './guest-ring.ts'
import { VERSION_1 } from './mmio-guest.ts'
import type { WindowedMemory } from './pci-bus.ts'

const { VIRTIO_CONFIG_S_ACKNOWLEDGE: ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER: DRIVER } = VIRTIO_CONFIG_S
const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S

/** Where it places the BARs. */
export const STRUCTURES = 0xd000_0000
export const MSIX = 0x12_e000_0000

export type CommonField = keyof typeof VIRTIO_PCI_COMMON

/** A capability as it stands in configuration space. */
export interface FoundCapability {
  at: number
  id: number
  /** Of virtio's: VIRTIO_PCI_CAP_*. */
  type: number
  length: number
}

export class PciGuest {
  readonly config: Registers
  readonly memory: WindowedMemory

  /** Places both BARs, and lets the function decode memory and use it. */
  constructor(config: Registers, memory: WindowedMemory) {
    this.config = config
    this.memory = memory
    this.placeBar(0, STRUCTURES)
    this.placeBar(4, MSIX)
    this.command = PCI_COMMAND.PCI_COMMAND_MEMORY | PCI_COMMAND.PCI_COMMAND_MASTER
  }

  placeBar(index: number, address: number): void {
    const at = PCI_HEADER.PCI_BASE_ADDRESS_0 + 4 * index
    this.config.write(at, 4, address % 2 ** 32)
    this.config.write(at + 4, 4, Math.floor(address / 2 ** 32))
  }

  set command(bits: number) {
    this.config.write(PCI_HEADER.PCI_COMMAND, 2, bits)
  }

  get capabilities(): FoundCapability[] {
    const found: FoundCapability[] = []
    let at = this.config.read(PCI_HEADER.PCI_CAPABILITY_LIST, 1)
    while (at !== 0) {
      const byte = (offset: number): number => this.config.read(at + offset, 1)
      found.push({
        at,
        id: byte(0),
        type: byte(VIRTIO_PCI_CAP_LAYOUT.cfg_type),
        length: byte(VIRTIO_PCI_CAP_LAYOUT.cap_len),
      })
      at = byte(PCI_CAP_LIST_NEXT)
    }
    return found
  }

  /** Virtio's capability of a type. */
  capability(name: keyof typeof VIRTIO_PCI_CAP): { at: number; bar: number; offset: number; length: number } {
    const found = this.capabilities.find(
      ({ id, type }) => id === PCI_CAP_ID.PCI_CAP_ID_VNDR && type === VIRTIO_PCI_CAP[name],
    )
    assert.ok(found !== undefined, name)
    const { at } = found
    return {
      at,
      bar: this.config.read(at + VIRTIO_PCI_CAP_LAYOUT.bar, 1),
      offset: this.config.read(at + VIRTIO_PCI_CAP_LAYOUT.offset, 4),
      length: this.config.read(at + VIRTIO_PCI_CAP_LAYOUT.length, 4),
    }
  }

  /** Guest-physical address of a structure. */
  address(name: keyof typeof VIRTIO_PCI_CAP): number {
    return STRUCTURES + this.capability(name).offset
  }

  read(field: CommonField): number {
    const { offset, width } = VIRTIO_PCI_COMMON[field]
    return this.memory.read(STRUCTURES + offset, width)
  }

  write(field: CommonField, value: number): void {
    const { offset, width } = VIRTIO_PCI_COMMON[field]
    this.memory.write(STRUCTURES + offset, width, value)
  }

  get status(): number {
    return this.read('device_status')
  }

  addStatus(bits: number): void {
    this.write('device_status', this.status | bits)
  }

  /** Resets the device and makes itself known. */
  begin(): void {
    this.write('device_status', 0)
    assert.equal(this.status, 0)
    this.addStatus(ACKNOWLEDGE)
    this.addStatus(DRIVER)
  }

  get offered(): bigint {
    let set = 0n
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.write('device_feature_select', select)
      set = withFeatureWord(set, select, this.read('device_feature'))
    }
    return set
  }

  /** Writes what it accepts, and FEATURES_OK. Returns whether that sticks. */
  accept(features: bigint): boolean {
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.write('driver_feature_select', select)
      this.write('driver_feature', featureWord(features, select))
    }
    this.addStatus(FEATURES_OK)
    return (this.status & FEATURES_OK) !== 0
  }

  /** Says where a queue lies, without enabling it. */
  place(index: number, { num, desc, avail, used }: Pick<GuestRing, 'num' | 'desc' | 'avail' | 'used'>): void {
    this.write('queue_select', index)
    this.write('queue_size', num)
    const low = (address: number): number => address % 2 ** 32
    const high = (address: number): number => Math.floor(address / 2 ** 32)
    this.write('queue_desc_lo', low(desc))
    this.write('queue_desc_hi', high(desc))
    this.write('queue_driver_lo', low(avail))
    this.write('queue_driver_hi', high(avail))
    this.write('queue_device_lo', low(used))
    this.write('queue_device_hi', high(used))
  }

  /** Enables the selected queue. Returns whether it is. */
  enable(): boolean {
    this.write('queue_enable', 1)
    return this.read('queue_enable') === 1
  }

  /** All the way to DRIVER_OK, with one queue, which may have a vector. */
  start(ring: GuestRing, features: bigint = VERSION_1, vector?: number): void {
    this.begin()
    assert.ok(this.accept(features))
    this.place(0, ring)
    if (vector !== undefined) assert.equal(this.mapQueue(0, vector), vector)
    assert.ok(this.enable())
    this.addStatus(DRIVER_OK)
    assert.equal(this.status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
  }

  /** Maps a queue to a vector. Returns what is read back. */
  mapQueue(index: number, vector: number): number {
    this.write('queue_select', index)
    this.write('queue_msix_vector', vector)
    return this.read('queue_msix_vector')
  }

  /** Maps configuration changes to a vector. Returns what is read back. */
  mapConfig(vector: number): number {
    this.write('config_msix_vector', vector)
    return this.read('config_msix_vector')
  }

  kick(index = 0): void {
    this.memory.write(this.address('VIRTIO_PCI_CAP_NOTIFY_CFG') + 4 * index, 2, index)
  }

  readIsr(): number {
    return this.memory.read(this.address('VIRTIO_PCI_CAP_ISR_CFG'), 1)
  }

  get msix(): { at: number; vectors: number; bar: number; table: number; pba: number } {
    const { at } = this.capabilities.find(({ id }) => id === PCI_CAP_ID.PCI_CAP_ID_MSIX)!
    const [table, pba] = [PCI_MSIX.PCI_MSIX_TABLE, PCI_MSIX.PCI_MSIX_PBA].map((field) =>
      this.config.read(at + field, 4),
    )
    return {
      at,
      vectors: (this.config.read(at + PCI_MSIX.PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS.PCI_MSIX_FLAGS_QSIZE) + 1,
      bar: table! & PCI_MSIX_BIR,
      table: MSIX + (table! & ~PCI_MSIX_BIR),
      pba: MSIX + (pba! & ~PCI_MSIX_BIR),
    }
  }

  set msixControl(bits: number) {
    this.config.write(this.msix.at + PCI_MSIX.PCI_MSIX_FLAGS, 2, bits)
  }

  maskVector(vector: number, masked: boolean): void {
    this.memory.write(this.msix.table + 16 * vector + 12, 4, masked ? 1 : 0)
  }

  /** Gives vectors a message and takes their mask away, one after the other, with MSI-X on. */
  enableMsix(vectors = this.msix.vectors): void {
    this.msixControl = PCI_MSIX_FLAGS.PCI_MSIX_FLAGS_ENABLE
    const { table } = this.msix
    for (let vector = 0; vector < vectors; vector++) {
      for (const [field, value] of [0xfee0_0000, 0, 0x40 + vector, 0].entries()) {
        this.memory.write(table + 16 * vector + 4 * field, 4, value)
      }
    }
  }
}
