// A device's registers by names that both transports have, for a guest that does not care which it is.

import { PCI_COMMAND } from '../../../lib/abi/pci.ts'
import { VIRTIO_MMIO } from '../../../lib/abi/virtio-mmio.ts'
import type { MmioGuest } from '../mmio-guest.ts'
import { type CommonField, MSIX, type PciGuest, STRUCTURES } from '../pci-guest.ts'

/** As virtio-mmio and as virtio-pci have it. */
const NAMES = {
  status: ['VIRTIO_MMIO_STATUS', 'device_status'],
  deviceFeaturesSelect: ['VIRTIO_MMIO_DEVICE_FEATURES_SEL', 'device_feature_select'],
  deviceFeatures: ['VIRTIO_MMIO_DEVICE_FEATURES', 'device_feature'],
  driverFeaturesSelect: ['VIRTIO_MMIO_DRIVER_FEATURES_SEL', 'driver_feature_select'],
  driverFeatures: ['VIRTIO_MMIO_DRIVER_FEATURES', 'driver_feature'],
  generation: ['VIRTIO_MMIO_CONFIG_GENERATION', 'config_generation'],
  queueSelect: ['VIRTIO_MMIO_QUEUE_SEL', 'queue_select'],
  queueSize: ['VIRTIO_MMIO_QUEUE_NUM', 'queue_size'],
  queueEnable: ['VIRTIO_MMIO_QUEUE_READY', 'queue_enable'],
  queueReset: ['VIRTIO_MMIO_QUEUE_RESET', 'queue_reset'],
  descLow: ['VIRTIO_MMIO_QUEUE_DESC_LOW', 'queue_desc_lo'],
  descHigh: ['VIRTIO_MMIO_QUEUE_DESC_HIGH', 'queue_desc_hi'],
  availLow: ['VIRTIO_MMIO_QUEUE_AVAIL_LOW', 'queue_driver_lo'],
  availHigh: ['VIRTIO_MMIO_QUEUE_AVAIL_HIGH', 'queue_driver_hi'],
  usedLow: ['VIRTIO_MMIO_QUEUE_USED_LOW', 'queue_device_lo'],
  usedHigh: ['VIRTIO_MMIO_QUEUE_USED_HIGH', 'queue_device_hi'],
} as const satisfies Record<string, readonly [keyof typeof VIRTIO_MMIO, CommonField]>

export type RegisterName = keyof typeof NAMES
export const REGISTERS = Object.keys(NAMES) as RegisterName[]

/** Where an access of any offset and width goes. */
export type Window = 'registers' | 'config' | 'msix'

export interface GuestRegisters {
  readonly transport: 'mmio' | 'pci'
  /** What there is besides the registers. */
  readonly windows: readonly Window[]
  read(name: RegisterName): number
  write(name: RegisterName, value: number): void
  kick(queue: number): void
  /** Configuration space of the device. */
  readConfig(offset: number, width: number): number
  writeConfig(offset: number, width: number, value: number): void
  /** Asks what interrupted, and says that it has seen it. */
  takeInterrupt(): number
  readAt(window: Window, offset: number, width: number): number
  writeAt(window: Window, offset: number, width: number, value: number): void
  /** Makes the registers reachable again, wherever a guest has moved them. */
  restore(): void
}

export class MmioRegisters implements GuestRegisters {
  readonly transport = 'mmio'
  readonly windows = ['registers'] as const
  readonly #guest: MmioGuest

  constructor(guest: MmioGuest) {
    this.#guest = guest
  }

  read(name: RegisterName): number {
    return this.#guest.read(NAMES[name][0])
  }

  write(name: RegisterName, value: number): void {
    this.#guest.write(NAMES[name][0], value)
  }

  kick(queue: number): void {
    this.#guest.kick(queue)
  }

  readConfig(offset: number, width: number): number {
    return this.#guest.registers.read(VIRTIO_MMIO.VIRTIO_MMIO_CONFIG + offset, width)
  }

  writeConfig(offset: number, width: number, value: number): void {
    this.#guest.registers.write(VIRTIO_MMIO.VIRTIO_MMIO_CONFIG + offset, width, value)
  }

  takeInterrupt(): number {
    return this.#guest.handleInterrupt()
  }

  readAt(_window: Window, offset: number, width: number): number {
    return this.#guest.registers.read(offset, width)
  }

  writeAt(_window: Window, offset: number, width: number, value: number): void {
    this.#guest.registers.write(offset, width, value)
  }

  restore(): void {
    // They cannot be moved.
  }
}

export class PciRegisters implements GuestRegisters {
  readonly transport = 'pci'
  readonly windows = ['registers', 'config', 'msix'] as const
  readonly #guest: PciGuest
  readonly #notify: number
  readonly #isr: number
  readonly #config: number

  constructor(guest: PciGuest) {
    this.#guest = guest
    this.#notify = guest.address('VIRTIO_PCI_CAP_NOTIFY_CFG')
    this.#isr = guest.address('VIRTIO_PCI_CAP_ISR_CFG')
    this.#config = guest.address('VIRTIO_PCI_CAP_DEVICE_CFG')
  }

  read(name: RegisterName): number {
    return this.#guest.read(NAMES[name][1])
  }

  write(name: RegisterName, value: number): void {
    this.#guest.write(NAMES[name][1], value)
  }

  kick(queue: number): void {
    this.#guest.memory.write(this.#notify + 4 * queue, 2, queue)
  }

  readConfig(offset: number, width: number): number {
    return this.#guest.memory.read(this.#config + offset, width)
  }

  writeConfig(offset: number, width: number, value: number): void {
    this.#guest.memory.write(this.#config + offset, width, value)
  }

  takeInterrupt(): number {
    return this.#guest.memory.read(this.#isr, 1)
  }

  readAt(window: Window, offset: number, width: number): number {
    if (window === 'config') return this.#guest.config.read(offset, width)
    return this.#guest.memory.read((window === 'msix' ? MSIX : STRUCTURES) + offset, width)
  }

  writeAt(window: Window, offset: number, width: number, value: number): void {
    if (window === 'config') this.#guest.config.write(offset, width, value)
    else this.#guest.memory.write((window === 'msix' ? MSIX : STRUCTURES) + offset, width, value)
  }

  restore(): void {
    const guest = this.#guest
    guest.msixControl = 0
    guest.command = 0
    guest.placeBar(0, STRUCTURES)
    guest.placeBar(4, MSIX)
    guest.command = PCI_COMMAND.PCI_COMMAND_MEMORY | PCI_COMMAND.PCI_COMMAND_MASTER
  }

  /** Lets each queue and the configuration have a vector of their own, with MSI-X on. */
  useVectors(queues: number): void {
    this.#guest.enableMsix()
    this.#guest.write('config_msix_vector', 0)
    for (let queue = 0; queue < queues; queue++) {
      this.#guest.write('queue_select', queue)
      this.#guest.write('queue_msix_vector', queue + 1)
    }
  }
}
