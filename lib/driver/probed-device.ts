// A virtio device that a driver has found, however it is reached (virtio 1.x sections 2 and 3).

import { VIRTIO_F } from '../abi/virtio.ts'
import { DeviceError, FeatureNegotiationError, QueueError } from '../errors.ts'
import type { EventFd } from '../event/index.ts'
import { FEATURE_WORDS, featureWord, hasFeature, withFeatureWord } from '../virtio/features.ts'
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

/** Looks at configuration space that goes on changing. */
const MOST_LOOKS = 1000

/** One device. Two drivers on the same registers would confuse each other. */
export abstract class ProbedDevice {
  /** Its type (section 5): 1 is a network device. */
  abstract readonly deviceId: number
  /** Features of the way to the device, which any driver may accept. */
  readonly known: bigint = 0n
  #accepted = 0n

  abstract get status(): number
  protected abstract writeStatus(status: number): void
  /** 32 bits of what the device offers. */
  protected abstract offeredWord(select: number): number
  protected abstract acceptWord(select: number, word: number): void
  protected abstract get generation(): number
  /** Bytes of configuration space that can be read, at least. */
  protected abstract get configSize(): number
  protected abstract readConfigAt(offset: number, width: 1 | 2 | 4): number
  /** The eventfd behind the notification of this queue; undefined where a kick has to be written. */
  abstract doorbell(index: number): EventFd | undefined
  /** Kicks a queue; after DRIVER_OK. */
  abstract notify(index: number): void
  /**
   * What an interrupt is about, which is acknowledged by that. Bits that nobody defined are let alone.
   * @param vector by which it came, of a device that has several
   */
  abstract takeInterrupt(vector?: number): InterruptCause
  /**
   * Largest size of a queue that is not enabled; 0 where there is no such queue.
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where it is enabled
   */
  abstract queueSizeMax(index: number): number
  /** Says where the queue lies that was asked about last, and enables it. @returns whether it is */
  protected abstract place(index: number, place: QueuePlace): boolean
  /** Gives a queue's memory back to the driver, at once. @throws {DeviceError} `ERR_DEVICE_BROKEN` */
  abstract disableQueue(index: number): void
  protected abstract beginQueueReset(index: number): void
  protected abstract isQueueResetDone(index: number): boolean

  /** Sets bits of the status, and clears none. */
  addStatus(bits: number): void {
    this.writeStatus(this.status | bits)
  }

  /** Resolves when the device is as it was at first. */
  async reset(signal?: AbortSignal): Promise<void> {
    this.#accepted = 0n
    this.writeStatus(0)
    await until(() => this.status === 0, signal)
  }

  /** What the driver may accept. */
  get offered(): bigint {
    let set = 0n
    for (let select = 0; select < FEATURE_WORDS; select++) {
      set = withFeatureWord(set, select, this.offeredWord(select))
    }
    return set
  }

  /** What the driver accepted. */
  get accepted(): bigint {
    return this.#accepted
  }

  /** Says what the driver accepts; before FEATURES_OK. */
  accept(features: bigint): void {
    for (let select = 0; select < FEATURE_WORDS; select++) this.acceptWord(select, featureWord(features, select))
    this.#accepted = features
  }

  /**
   * Reads a field of configuration space.
   * @param width the field's own: 1, 2 or 4 bytes.
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where the space ends before it
   */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    if (offset + width <= this.configSize) return this.readConfigAt(offset, width)
    throw new DeviceError('ERR_DEVICE_BROKEN', `configuration space ends before byte ${offset + width}`)
  }

  /**
   * What `read` finds in configuration space while nothing changes there (section 2.5.2).
   * @throws {DeviceError} `ERR_DEVICE_BROKEN` where that never is so
   */
  consistently<T>(read: () => T): T {
    for (let look = 0; look < MOST_LOOKS; look++) {
      const before = this.generation
      const found = read()
      if (this.generation === before) return found
    }
    throw new DeviceError('ERR_DEVICE_BROKEN', `configuration space changed during each of ${MOST_LOOKS} reads`)
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
    if (this.place(index, place)) return
    throw new DeviceError('ERR_DEVICE_BROKEN', `the device did not enable queue ${index}`)
  }

  /**
   * Resets a queue, whose memory is the driver's again then; enable it as at first.
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` without RING_RESET
   */
  async resetQueue(index: number, signal?: AbortSignal): Promise<void> {
    if (!hasFeature(this.#accepted, VIRTIO_F.VIRTIO_F_RING_RESET)) {
      throw new FeatureNegotiationError('ERR_FEATURE_MISSING', 'resetting a queue needs VIRTIO_F_RING_RESET (40)')
    }
    this.beginQueueReset(index)
    await until(() => this.isQueueResetDone(index), signal)
  }

  protected refuseEnabled(index: number, enabled: boolean): void {
    if (!enabled) return
    throw new DeviceError('ERR_DEVICE_BROKEN', `queue ${index} is enabled, and the driver has not done that`)
  }
}
