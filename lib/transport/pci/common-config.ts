// The common configuration structure: a virtio device's registers over PCI (virtio 1.x section 4.1.4.3).

import { VIRTIO_F } from '../../abi/virtio.ts'
import { VIRTIO_PCI_COMMON, VIRTIO_PCI_COMMON_SIZE } from '../../abi/virtio-pci.ts'
import type { Registers } from '../../event/index.ts'
import { featureWord, type VirtioDevice, type Virtqueue, type VringPart } from '../../virtio/index.ts'
import type { PciVectors } from './vectors.ts'

type Field = keyof typeof VIRTIO_PCI_COMMON

const FIELDS: ReadonlyMap<number, Field> = new Map(
  Object.entries(VIRTIO_PCI_COMMON).map(([name, { offset }]) => [offset, name as Field]),
)

/** Which half of which address a field is: 0 the lower one, 1 the higher. */
const ADDRESS_FIELDS: ReadonlyMap<Field, readonly [part: VringPart, half: 0 | 1]> = new Map([
  ['queue_desc_lo', ['desc', 0]],
  ['queue_desc_hi', ['desc', 1]],
  ['queue_driver_lo', ['avail', 0]],
  ['queue_driver_hi', ['avail', 1]],
  ['queue_device_lo', ['used', 0]],
  ['queue_device_hi', ['used', 1]],
])

/** What the selectors are; JSON-safe. */
export interface Selected {
  deviceFeatures: number
  driverFeatures: number
  queue: number
}

/**
 * A field takes accesses of its own width, its 64-bit addresses of 32 bits for each half (section 4.1.3.1). Any other
 * access, a write of a read-only field, and fields of features that are not offered read 0 or do nothing. Selectors that
 * name nothing read as what is not there: no features, a queue of size 0 and without a vector.
 */
export class CommonConfig implements Registers {
  readonly size = VIRTIO_PCI_COMMON_SIZE
  readonly #device: VirtioDevice
  readonly #vectors: PciVectors
  #deviceFeatureSelect = 0
  #driverFeatureSelect = 0
  #queueSelect = 0

  constructor(device: VirtioDevice, vectors: PciVectors) {
    this.#device = device
    this.#vectors = vectors
  }

  read(offset: number, width: number): number {
    const field = fieldAt(offset, width)
    return field === undefined ? 0 : this.#read(field)
  }

  write(offset: number, width: number, value: number): void {
    const field = fieldAt(offset, width)
    if (field !== undefined) this.#write(field, (value & (width === 4 ? -1 : 2 ** (8 * width) - 1)) >>> 0)
  }

  #read(field: Field): number {
    switch (field) {
      case 'device_feature_select':
        return this.#deviceFeatureSelect
      case 'device_feature':
        return this.#device.featureWord(this.#deviceFeatureSelect)
      case 'driver_feature_select':
        return this.#driverFeatureSelect
      case 'driver_feature':
        return featureWord(this.#device.accepted, this.#driverFeatureSelect)
      case 'config_msix_vector':
        return this.#vectors.config
      case 'num_queues':
        return this.#device.queues.length
      case 'device_status':
        return this.#device.status
      case 'config_generation':
        return this.#device.config.generation & 0xff
      case 'queue_select':
        return this.#queueSelect
      default:
        return this.#readQueue(field)
    }
  }

  #readQueue(field: Field): number {
    const queue = this.#queue
    switch (field) {
      case 'queue_size':
        return queue?.size ?? 0
      case 'queue_msix_vector':
        return this.#vectors.of(queue)
      case 'queue_enable':
        return queue?.ready === true ? 1 : 0
      case 'queue_notify_off':
        return queue?.index ?? 0
      // queue_reset among the others: the reset is complete before the guest's write is.
      default: {
        const part = ADDRESS_FIELDS.get(field)
        return part === undefined ? 0 : (queue?.addressWord(...part) ?? 0)
      }
    }
  }

  #write(field: Field, value: number): void {
    switch (field) {
      case 'device_feature_select':
        this.#deviceFeatureSelect = value
        return
      case 'driver_feature_select':
        this.#driverFeatureSelect = value
        return
      case 'driver_feature':
        this.#device.acceptFeatureWord(this.#driverFeatureSelect, value)
        return
      case 'config_msix_vector':
        this.#vectors.config = value
        return
      case 'device_status':
        this.#device.writeStatus(value)
        return
      case 'queue_select':
        this.#queueSelect = value
        return
      case 'queue_msix_vector':
        this.#vectors.map(this.#queue, value)
        return
      default:
        if (this.#queue !== undefined && this.#device.maySetUp) this.#writeQueue(this.#queue, field, value)
    }
  }

  #writeQueue(queue: Virtqueue, field: Field, value: number): void {
    switch (field) {
      case 'queue_size':
        // What is read back is a power of two, whatever was written (section 4.1.4.3.1).
        if (value <= queue.sizeMax && isPowerOfTwo(value)) queue.size = value
        return
      case 'queue_enable':
        // There is no way back but a reset (section 4.1.4.3.2).
        if (value === 1) this.#device.enableQueue(queue)
        return
      case 'queue_reset':
        if (value === 1) this.#reset(queue)
        return
      default: {
        const part = ADDRESS_FIELDS.get(field)
        if (part !== undefined) queue.setAddress(...part, value)
      }
    }
  }

  #reset(queue: Virtqueue): void {
    if (!this.#device.negotiated(VIRTIO_F.VIRTIO_F_RING_RESET)) return
    this.#device.resetQueue(queue)
    this.#vectors.forget(queue)
  }

  get #queue(): Virtqueue | undefined {
    return this.#device.queue(this.#queueSelect)
  }

  /** The device was reset. */
  reset(): void {
    this.#deviceFeatureSelect = 0
    this.#driverFeatureSelect = 0
    this.#queueSelect = 0
  }

  get selected(): Selected {
    return {
      deviceFeatures: this.#deviceFeatureSelect,
      driverFeatures: this.#driverFeatureSelect,
      queue: this.#queueSelect,
    }
  }
}

function fieldAt(offset: number, width: number): Field | undefined {
  const field = FIELDS.get(offset)
  return field !== undefined && VIRTIO_PCI_COMMON[field].width === width ? field : undefined
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0
}
