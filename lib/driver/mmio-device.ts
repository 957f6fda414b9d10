// A device behind the registers of virtio-mmio, as a driver uses them (virtio 1.x sections 4.2.2.2 and 4.2.3).

import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_MMIO, VIRTIO_MMIO_INT, VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_VERSION_2 } from '../abi/virtio-mmio.ts'
import { DeviceError, FeatureNegotiationError, QueueError } from '../errors.ts'
import type { EventFd, Registers } from '../event/index.ts'
import { FEATURE_WORDS, featureWord, hasFeature, withFeatureWord } from '../virtio/features.ts'
import type { LocalEvents } from './local-events.ts'
import { until } from './until.ts'

/** Where a queue lies, in guest-physical addresses. */
export interface QueuePlace {
  readonly num: number
  readonly desc: number
  readonly avail: number
  readonly used: number
}

/** What an interrupt is about; both may be so, or neither. */
export interface InterruptCause {
  /** Buffers of some queue were used. */
  readonly used: boolean
  /** Configuration space or status changed. */
  readonly config: boolean
}

/** What takes kicks before they come to the registers. */
export interface MmioBus {
  readonly events: LocalEvents
  /** Guest-physical address of the registers. */
  readonly address: number
}

const CONFIG = VIRTIO_MMIO.VIRTIO_MMIO_CONFIG

/** Each of them as low and high register. */
const ADDRESSES = {
  desc: ['VIRTIO_MMIO_QUEUE_DESC_LOW', 'VIRTIO_MMIO_QUEUE_DESC_HIGH'],
  avail: ['VIRTIO_MMIO_QUEUE_AVAIL_LOW', 'VIRTIO_MMIO_QUEUE_AVAIL_HIGH'],
  used: ['VIRTIO_MMIO_QUEUE_USED_LOW', 'VIRTIO_MMIO_QUEUE_USED_HIGH'],
} as const

/** Looks at configuration space that goes on changing. */
const MOST_LOOKS = 1000

/** One device. Two drivers on the same registers would confuse each other. */
export class MmioDevice {
  /** Its type (section 5): 1 is a network device. */
  readonly deviceId: number
  readonly #registers: Registers
  readonly #bus: MmioBus | undefined
  #accepted = 0n

  private constructor(registers: Registers, deviceId: number, bus: MmioBus | undefined) {
    this.#registers = registers
    this.deviceId = deviceId
    this.#bus = bus
  }

  /** The device behind the registers; undefined where there is none, or one of another version. */
  static probe(registers: Registers, bus?: MmioBus): MmioDevice | undefined {
    const read = (register: keyof typeof VIRTIO_MMIO): number => registers.read(VIRTIO_MMIO[register], 4)
    if (read('VIRTIO_MMIO_MAGIC_VALUE') !== VIRTIO_MMIO_MAGIC) return undefined
    if (read('VIRTIO_MMIO_VERSION') !== VIRTIO_MMIO_VERSION_2) return undefined
    const deviceId = read('VIRTIO_MMIO_DEVICE_ID')
    return deviceId === 0 ? undefined : new MmioDevice(registers, deviceId, bus)
  }

  #read(register: keyof typeof VIRTIO_MMIO): number {
    return this.#registers.read(VIRTIO_MMIO[register], 4)
  }

  #write(register: keyof typeof VIRTIO_MMIO, value: number): void {
    this.#registers.write(VIRTIO_MMIO[register], 4, value)
  }

  get status(): number {
    return this.#read('VIRTIO_MMIO_STATUS')
  }

  /** Sets bits of the status, and clears none. */
  addStatus(bits: number): void {
    this.#write('VIRTIO_MMIO_STATUS', this.status | bits)
  }

  /** Resolves when the device is as it was at first. */
  async reset(signal?: AbortSignal): Promise<void> {
    this.#accepted = 0n
    this.#write('VIRTIO_MMIO_STATUS', 0)
    await until(() => this.status === 0, signal)
  }

  /** What the driver may accept. */
  get offered(): bigint {
    let set = 0n
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.#write('VIRTIO_MMIO_DEVICE_FEATURES_SEL', select)
      set = withFeatureWord(set, select, this.#read('VIRTIO_MMIO_DEVICE_FEATURES'))
    }
    return set
  }

  /** What the driver accepted. */
  get accepted(): bigint {
    return this.#accepted
  }

  /** Says what the driver accepts; before FEATURES_OK. */
  accept(features: bigint): void {
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.#write('VIRTIO_MMIO_DRIVER_FEATURES_SEL', select)
      this.#write('VIRTIO_MMIO_DRIVER_FEATURES', featureWord(features, select))
    }
    this.#accepted = features
  }

  /**
   * Reads a field of configuration space.
   * @param width the field's own: 1, 2 or 4 bytes.
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where the space ends before it
   */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    if (CONFIG + offset + width > this.#registers.size) {
      throw new DeviceError('ERR_DEVICE_BROKEN', `configuration space ends before byte ${offset + width}`)
    }
    return this.#registers.read(CONFIG + offset, width)
  }

  /**
   * What `read` finds in configuration space while nothing changes there (section 2.5.2).
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where that never is so
   */
  consistently<T>(read: () => T): T {
    for (let look = 0; look < MOST_LOOKS; look++) {
      const before = this.#read('VIRTIO_MMIO_CONFIG_GENERATION')
      const found = read()
      if (this.#read('VIRTIO_MMIO_CONFIG_GENERATION') === before) return found
    }
    throw new DeviceError('ERR_DEVICE_BROKEN', `configuration space changed during each of ${MOST_LOOKS} reads`)
  }

  /**
   * Largest size of a queue that is not enabled; 0 where there is no such queue.
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where it is enabled
   */
  queueSizeMax(index: number): number {
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    if (this.#read('VIRTIO_MMIO_QUEUE_READY') !== 0) {
      throw new DeviceError('ERR_DEVICE_BROKEN', `queue ${index} is enabled, and the driver has not done that`)
    }
    return this.#read('VIRTIO_MMIO_QUEUE_NUM_MAX')
  }

  /**
   * Says where a queue lies, and enables it; after FEATURES_OK.
   * @throws {QueueError} `ERR_QUEUE_SIZE`
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where it is enabled already, or does not become so
   */
  enableQueue(index: number, place: QueuePlace): void {
    const most = this.queueSizeMax(index)
    if (place.num > most) {
      throw new QueueError('ERR_QUEUE_SIZE', `queue ${index}: a ring of ${place.num} entries, the most is ${most}`)
    }
    this.#write('VIRTIO_MMIO_QUEUE_NUM', place.num)
    for (const part of ['desc', 'avail', 'used'] as const) {
      const [low, high] = ADDRESSES[part]
      this.#write(low, place[part] % 2 ** 32)
      this.#write(high, Math.floor(place[part] / 2 ** 32))
    }
    this.#write('VIRTIO_MMIO_QUEUE_READY', 1)
    if (this.#read('VIRTIO_MMIO_QUEUE_READY') === 1) return
    throw new DeviceError('ERR_DEVICE_BROKEN', `the device did not enable queue ${index}`)
  }

  /** Disables a queue; once it returns, its memory is the driver's again. @throws {DeviceError} `ERR_DEVICE_BROKEN` */
  disableQueue(index: number): void {
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.#write('VIRTIO_MMIO_QUEUE_READY', 0)
    if (this.#read('VIRTIO_MMIO_QUEUE_READY') === 0) return
    throw new DeviceError('ERR_DEVICE_BROKEN', `the device did not disable queue ${index}`)
  }

  /**
   * Resets a queue, whose memory is the driver's again then; enable it as at first.
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` without RING_RESET
   */
  async resetQueue(index: number, signal?: AbortSignal): Promise<void> {
    if (!hasFeature(this.#accepted, VIRTIO_F.VIRTIO_F_RING_RESET)) {
      throw new FeatureNegotiationError('ERR_FEATURE_MISSING', 'resetting a queue needs VIRTIO_F_RING_RESET (40)')
    }
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.#write('VIRTIO_MMIO_QUEUE_RESET', 1)
    await until(() => {
      this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
      return this.#read('VIRTIO_MMIO_QUEUE_RESET') === 0
    }, signal)
  }

  /** The eventfd behind the notify register for this queue; undefined where a kick has to be written there. */
  doorbell(index: number): EventFd | undefined {
    const notify = VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NOTIFY
    return this.#bus?.events.doorbell({ address: this.#bus.address + notify, width: 4, value: index })
  }

  /** Kicks a queue; after DRIVER_OK. */
  notify(index: number): void {
    this.#write('VIRTIO_MMIO_QUEUE_NOTIFY', index)
  }

  /** What an interrupt is about, which is acknowledged by that. Bits that nobody defined are let alone. */
  takeInterrupt(): InterruptCause {
    const { VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INT_CONFIG } = VIRTIO_MMIO_INT
    const bits = this.#read('VIRTIO_MMIO_INTERRUPT_STATUS') & (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG)
    if (bits !== 0) this.#write('VIRTIO_MMIO_INTERRUPT_ACK', bits)
    return { used: (bits & VIRTIO_MMIO_INT_VRING) !== 0, config: (bits & VIRTIO_MMIO_INT_CONFIG) !== 0 }
  }
}
