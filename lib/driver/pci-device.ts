// A device behind virtio-pci, as a driver uses it (virtio 1.x sections 4.1.4 and 4.1.5).

import { PCI_HEADER } from '../abi/pci.ts'
import { VIRTIO_F } from '../abi/virtio.ts'
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_COMMON,
  VIRTIO_PCI_ID,
  VIRTIO_PCI_ISR,
} from '../abi/virtio-pci.ts'
import { DeviceError } from '../errors.ts'
import type { EventFd, Registers } from '../event/index.ts'
import { featureSet, hasFeature } from '../virtio/features.ts'
import type { LocalEvents } from './local-events.ts'
import type { LocalMemorySpace } from './local-memory-space.ts'
import { PciMessages } from './pci-messages.ts'
import { findStructures, type Structures } from './pci-structures.ts'
import { type InterruptCause, ProbedDevice, type QueuePlace } from './probed-device.ts'

/** What is around a device on a bus in this process. */
export interface PciAccess {
  /** Where its registers were placed, with `placeBars` or by somebody else. */
  readonly memory: LocalMemorySpace
  /** What takes kicks, and brings the interrupts of MSI-X. Default kicks are written, and interrupts come by the pin. */
  readonly events?: LocalEvents
}

type Field = keyof typeof VIRTIO_PCI_COMMON

/** A queue's notifications: where they are written, and what. */
interface Notification {
  readonly address: number
  readonly value: number
}

export class PciDevice extends ProbedDevice {
  override readonly deviceId: number
  override readonly known = featureSet(VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA)
  readonly #structures: Structures
  readonly #memory: LocalMemorySpace
  readonly #events: LocalEvents | undefined
  readonly #messages: PciMessages | undefined
  /** By index of a queue that was enabled. */
  readonly #notifications = new Map<number, Notification>()

  private constructor(deviceId: number, structures: Structures, access: PciAccess, messages: PciMessages | undefined) {
    super()
    this.deviceId = deviceId
    this.#structures = structures
    this.#memory = access.memory
    this.#events = access.events
    this.#messages = messages
  }

  /**
   * The device behind a function's configuration space; undefined where it is none of virtio, or has no structures of a modern
   * device where its registers were placed. With `events` MSI-X is switched on, if it is there.
   */
  static probe(config: Registers, access: PciAccess): PciDevice | undefined {
    if (config.read(PCI_HEADER.PCI_VENDOR_ID, 2) !== PCI_VENDOR_ID_REDHAT_QUMRANET) return undefined
    const deviceId = typeOf(config)
    const structures = deviceId === undefined ? undefined : findStructures(config)
    if (deviceId === undefined || structures === undefined) return undefined
    const usable = access.events !== undefined && structures.msix !== undefined
    const messages = usable ? PciMessages.enable(config, structures.msix, access.memory) : undefined
    return new PciDevice(deviceId, structures, access, messages)
  }

  #read(field: Field): number {
    const { offset, width } = VIRTIO_PCI_COMMON[field]
    return this.#memory.read(this.#structures.common.address + offset, width)
  }

  #write(field: Field, value: number): void {
    const { offset, width } = VIRTIO_PCI_COMMON[field]
    this.#memory.write(this.#structures.common.address + offset, width, value)
  }

  override get status(): number {
    return this.#read('device_status')
  }

  protected override writeStatus(status: number): void {
    this.#write('device_status', status)
  }

  protected override offeredWord(select: number): number {
    this.#write('device_feature_select', select)
    return this.#read('device_feature')
  }

  /** Without what needs a field that lies behind the end of the device's structure. */
  override get offered(): bigint {
    const lacks = (field: Field): boolean => {
      const { offset, width } = VIRTIO_PCI_COMMON[field]
      return this.#structures.common.length < offset + width
    }
    const missing = [
      ...(lacks('queue_reset') ? [VIRTIO_F.VIRTIO_F_RING_RESET] : []),
      ...(lacks('queue_notif_config_data') ? [VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA] : []),
    ]
    return super.offered & ~featureSet(...missing)
  }

  protected override acceptWord(select: number, word: number): void {
    this.#write('driver_feature_select', select)
    this.#write('driver_feature', word)
  }

  /** Maps the configuration to its vector, too, which a reset took. @throws {DeviceError} `ERR_DEVICE_BROKEN` */
  override accept(features: bigint): void {
    super.accept(features)
    if (this.#messages !== undefined) this.#map('config_msix_vector', this.#messages.configVector)
  }

  #map(field: 'config_msix_vector' | 'queue_msix_vector', vector: number): void {
    this.#write(field, vector)
    if (this.#read(field) !== VIRTIO_MSI_NO_VECTOR) return
    throw new DeviceError('ERR_DEVICE_BROKEN', `the device refused vector ${vector}, of ${this.#messages?.vectors}`)
  }

  protected override get generation(): number {
    return this.#read('config_generation')
  }

  protected override get configSize(): number {
    return this.#structures.device?.length ?? 0
  }

  protected override readConfigAt(offset: number, width: 1 | 2 | 4): number {
    return this.#memory.read((this.#structures.device?.address ?? 0) + offset, width)
  }

  override queueSizeMax(index: number): number {
    this.#write('queue_select', index)
    this.refuseEnabled(index, this.#read('queue_enable') !== 0)
    return this.#read('queue_size')
  }

  protected override place(index: number, place: QueuePlace): boolean {
    this.#write('queue_size', place.num)
    for (const [part, address] of [
      ['queue_desc', place.desc],
      ['queue_driver', place.avail],
      ['queue_device', place.used],
    ] as const) {
      this.#write(`${part}_lo`, address % 2 ** 32)
      this.#write(`${part}_hi`, Math.floor(address / 2 ** 32))
    }
    if (this.#messages !== undefined) this.#map('queue_msix_vector', this.#messages.queueVector(index))
    this.#notifications.set(index, this.#notificationOf(index))
    this.#write('queue_enable', 1)
    return this.#read('queue_enable') === 1
  }

  #notificationOf(index: number): Notification {
    const { address, multiplier } = this.#structures.notify
    const configured = hasFeature(this.accepted, VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA)
    return {
      address: address + this.#read('queue_notify_off') * multiplier,
      value: configured ? this.#read('queue_notif_config_data') : index,
    }
  }

  /** There is no way back from queue_enable but the queue's reset or, without RING_RESET, the device's. */
  override disableQueue(index: number): void {
    if (hasFeature(this.accepted, VIRTIO_F.VIRTIO_F_RING_RESET)) {
      this.beginQueueReset(index)
      if (this.isQueueResetDone(index)) return
    } else {
      this.writeStatus(0)
      if (this.status === 0) return
    }
    throw new DeviceError('ERR_DEVICE_BROKEN', `the device did not let go of queue ${index}`)
  }

  protected override beginQueueReset(index: number): void {
    this.#write('queue_select', index)
    this.#write('queue_reset', 1)
  }

  protected override isQueueResetDone(index: number): boolean {
    this.#write('queue_select', index)
    return this.#read('queue_reset') === 0
  }

  override doorbell(index: number): EventFd | undefined {
    const notification = this.#notifications.get(index)
    return notification === undefined ? undefined : this.#events?.doorbell({ ...notification, width: 2 })
  }

  override notify(index: number): void {
    const notification = this.#notifications.get(index)
    if (notification !== undefined) this.#memory.write(notification.address, 2, notification.value)
  }

  /** With MSI-X the vector says it, which may be shared by both; the ISR status is for those who have none. */
  override takeInterrupt(vector = 0): InterruptCause {
    if (this.#messages !== undefined) {
      const config = vector === this.#messages.configVector
      return { used: !config || this.#messages.vectors === 1, config }
    }
    const { VIRTIO_PCI_ISR_QUEUE, VIRTIO_PCI_ISR_CONFIG } = VIRTIO_PCI_ISR
    const bits = this.#memory.read(this.#structures.isr.address, 1)
    return { used: (bits & VIRTIO_PCI_ISR_QUEUE) !== 0, config: (bits & VIRTIO_PCI_ISR_CONFIG) !== 0 }
  }
}

/** Any revision will do; a transitional device says its type in its subsystem (section 4.1.2.3). */
function typeOf(config: Registers): number | undefined {
  const id = config.read(PCI_HEADER.PCI_DEVICE_ID, 2)
  if (id < VIRTIO_PCI_ID.first || id > VIRTIO_PCI_ID.last) return undefined
  const type = id < VIRTIO_PCI_ID.modern ? config.read(PCI_HEADER.PCI_SUBSYSTEM_ID, 2) : id - VIRTIO_PCI_ID.modern
  return type === 0 ? undefined : type
}
