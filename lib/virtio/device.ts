// What every virtio device does, whatever it is and however a guest reaches it: features, status, queues, configuration.

import { EventEmitter } from 'node:events'
import { VIRTIO_CONFIG_S, VIRTIO_F, VIRTQUEUE_MAX_SIZE } from '../abi/virtio.ts'
import { StateError } from '../errors.ts'
import type { GuestMemory } from '../memory/index.ts'
import { checkPowerOfTwo } from '../options.ts'
import { Teardown } from '../teardown.ts'
import type { DescriptorChain } from './chain.ts'
import { ConfigSpace } from './config-space.ts'
import { type DeviceFault, faultOf } from './fault.ts'
import {
  consistentFeatures,
  type FeatureRule,
  featureNames,
  featureSet,
  featureWord,
  hasFeature,
  unmetFeatures,
  withFeatureWord,
} from './features.ts'
import { QueueService } from './queue-service.ts'
import { SplitRing } from './split-ring.ts'
import { isLive, mayChooseFeatures, maySetUp, nextStatus, statusNames } from './status.ts'
import { Virtqueue, type VirtqueueState } from './virtqueue.ts'

const { VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S
const VERSION_1 = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1)
/** What no device can have here: rings are split, barriers are those between CPUs, and the status has no SUSPEND. */
const NOT_SERVED = featureSet(
  VIRTIO_F.VIRTIO_F_RING_PACKED,
  VIRTIO_F.VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F.VIRTIO_F_SUSPEND,
)

export interface VirtioDeviceOptions {
  /** The type's number (section 5): 1 is a network device, 4 an entropy source. */
  deviceId: number
  memory: GuestMemory
  /** What it can do. VERSION_1 is added; what lacks something it needs is not offered, nor what no device can have here. */
  features: bigint
  /** What its features need. */
  rules?: readonly FeatureRule[]
  /** Names of the feature bits that are the type's own, for `inspect()`. */
  names?: Readonly<Record<string, number>>
  /** The largest size of each queue, powers of two in 1..32768, by queue index. */
  queueSizes: readonly number[]
  /** Configuration space as it is at first. Default none. */
  config?: Uint8Array
}

/** The way from a device to its guest. */
export interface DeviceTransport {
  /** Features that this way does not allow. */
  readonly withheld: bigint
  /** The guest is to be told that configuration space or status changed. */
  configChanged(): void
  /** The status is another one; what follows from it has not begun. */
  statusChanged(status: number): void
  /** A queue was enabled, and does not run yet. */
  queueEnabled(queue: Virtqueue): void
  /** A queue is about to be disabled or reset, and runs no more. */
  queueDisabled(queue: Virtqueue): void
  /** The device was reset. */
  reset(): void
}

export interface VirtioDeviceEvents {
  /** The status changed, by the driver or by the device. Emitted once the guest's access is done. */
  state: [status: readonly string[]]
  /** DEVICE_NEEDS_RESET was set, and why. Emitted likewise. */
  fault: [fault: DeviceFault]
}

/** What a device is now; JSON-safe. */
export interface VirtioDeviceState {
  deviceId: number
  status: string[]
  features: { offered: string[]; accepted: string[] }
  queues: VirtqueueState[]
  /** Why it needs a reset; null while it needs none. */
  fault: { cause: string; queue: number | null; message: string } | null
}

/**
 * The base of all devices. The methods that a transport calls throw nothing for what a guest does: what cannot be done
 * is left undone where the specification says so, and else ends in DEVICE_NEEDS_RESET with a cause.
 *
 * A device type says what happens in between: `activate` when the driver is ready, then `startQueue` for each queue by
 * ascending index; `stopQueue` and `deactivate` the other way round. What one of the first two throws is a fault.
 */
export abstract class VirtioDevice extends EventEmitter<VirtioDeviceEvents> {
  readonly deviceId: number
  readonly memory: GuestMemory
  readonly config: ConfigSpace
  readonly queues: readonly Virtqueue[]
  readonly #features: bigint
  readonly #rules: readonly FeatureRule[]
  readonly #names: Readonly<Record<string, number>>
  readonly #running: Virtqueue[] = []
  #transport: DeviceTransport | undefined
  #accepted = 0n
  #status = 0
  #active = false
  #fault: DeviceFault | undefined

  /**
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` of `queueSizes`
   * @throws {SystemCallError} `EMFILE`
   */
  constructor({ deviceId, memory, features, rules = [], names = {}, queueSizes, config }: VirtioDeviceOptions) {
    super()
    this.deviceId = deviceId
    this.memory = memory
    this.#rules = rules
    this.#names = names
    this.#features = consistentFeatures((features & ~NOT_SERVED) | VERSION_1, rules)
    this.config = new ConfigSpace(config ?? new Uint8Array(), () => this.#notifyConfig())
    const made = new Teardown()
    try {
      this.queues = queueSizes.map((size, index) => {
        checkPowerOfTwo(size, `queueSizes[${index}]`, 1, VIRTQUEUE_MAX_SIZE)
        return made.own(new Virtqueue(memory, index, size))
      })
    } catch (error) {
      throw made.unwind(error)
    }
  }

  /** The driver is ready: it has set DRIVER_OK. */
  protected abstract activate(): void
  /** No queue runs any more. Undoes `activate`; must not throw. */
  protected abstract deactivate(): void
  /** The driver has enabled the queue, whose `vring` is checked. Its progress begins at 0. */
  protected abstract startQueue(queue: Virtqueue): void
  /** Once it returns, nothing touches the queue or its buffers any more, nor signals it. Must not throw. */
  protected abstract stopQueue(queue: Virtqueue): void

  /** Serves a running queue in this process, from `startQueue` on; stop the service in `stopQueue`. */
  protected serveQueue(queue: Virtqueue, serve: (chain: DescriptorChain) => void): QueueService {
    const { vring, kick, call } = queue
    if (vring === undefined) throw new StateError('ERR_NOT_ACTIVE', `queue ${queue.index} is not enabled`)
    const ring = new SplitRing(this.memory, vring, {
      indirect: this.negotiated(VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC),
      eventIdx: this.negotiated(VIRTIO_F.VIRTIO_RING_F_EVENT_IDX),
    })
    return new QueueService({ ring, kick, call, serve, failed: (error) => this.fault(error, queue) })
  }

  /** The driver wrote configuration space; most devices have nothing there that it may. */
  protected writeConfig(_offset: number, _bytes: Uint8Array): void {
    // Read-only fields: the write has no effect.
  }

  /** The driver has reset the device: what it changed by requests is as at first. Must not throw. */
  protected resetState(): void {
    // Most devices have no such state.
  }

  /** The queue of this index; undefined where there is none, which may depend on the features agreed on. */
  queue(index: number): Virtqueue | undefined {
    return this.queues[index]
  }

  /** Binds the device to its transport. There is one; the guest has not seen the device before. @returns undoes it */
  attach(transport: DeviceTransport): () => void {
    this.#transport = transport
    return () => {
      this.#transport = undefined
    }
  }

  /** What the driver may accept: the same at any time. */
  get offered(): bigint {
    return consistentFeatures(this.#features & ~(this.#transport?.withheld ?? 0n), this.#rules)
  }

  /** What the driver wrote; agreed on once FEATURES_OK is set. */
  get accepted(): bigint {
    return this.#accepted
  }

  get status(): number {
    return this.#status
  }

  /** Whether both sides have agreed on the feature. */
  negotiated(bit: number): boolean {
    return maySetUp(this.#status) && hasFeature(this.#accepted, bit)
  }

  /** Bits `32 * select`.. of what is offered. */
  featureWord(select: number): number {
    return featureWord(this.offered, select)
  }

  /** Bits `32 * select`.. of what the driver accepts; without effect before DRIVER and after FEATURES_OK. */
  acceptFeatureWord(select: number, word: number): void {
    if (mayChooseFeatures(this.#status)) this.#accepted = withFeatureWord(this.#accepted, select, word)
  }

  /** The driver writes the status: 0 resets the device. */
  writeStatus(written: number): void {
    if (written === 0) {
      this.reset()
      return
    }
    const before = this.#status
    this.#setStatus(nextStatus(before, written, () => this.#acceptable()))
    if (isLive(this.#status)) this.#start()
    else this.#stop()
    // A fault that came before DRIVER_OK was not told yet.
    if ((this.#status & ~before & DRIVER_OK) !== 0 && (before & NEEDS_RESET) !== 0) this.#notifyConfig()
  }

  #acceptable(): boolean {
    const extra = this.#accepted & ~this.offered
    const legacy = (this.#accepted & VERSION_1) === 0n
    return extra === 0n && !legacy && unmetFeatures(this.#accepted, this.#rules) === 0n
  }

  /** Back to the beginning; once it returns, the device touches no guest memory and tells the guest nothing. */
  reset(): void {
    this.#stop()
    for (const queue of this.queues) queue.reset()
    this.#accepted = 0n
    this.#fault = undefined
    this.#setStatus(0)
    this.resetState()
    this.#transport?.reset()
  }

  /** Whether the driver may write a queue's size and addresses, and enable it. */
  get maySetUp(): boolean {
    return maySetUp(this.#status)
  }

  /** The driver enables a queue; what it said of it is checked now. */
  enableQueue(queue: Virtqueue): void {
    if (!this.maySetUp || queue.ready) return
    try {
      queue.enable()
    } catch (error) {
      this.fault(error, queue)
      return
    }
    this.#transport?.queueEnabled(queue)
    if (this.#active) this.#startQueue(queue)
  }

  /** The driver disables a queue; what it wrote stays. */
  disableQueue(queue: Virtqueue): void {
    this.#stopQueue(queue)
    if (queue.ready) this.#transport?.queueDisabled(queue)
    queue.disable()
  }

  /** The driver resets a queue; without effect unless RING_RESET is negotiated. Complete when it returns. */
  resetQueue(queue: Virtqueue): void {
    if (!this.negotiated(VIRTIO_F.VIRTIO_F_RING_RESET)) return
    this.#stopQueue(queue)
    if (queue.ready) this.#transport?.queueDisabled(queue)
    queue.reset()
  }

  /** The driver kicks a queue, and no doorbell took it. One that does not run is not to be kicked. */
  notify(index: number): void {
    const queue = this.queues[index]
    if (queue !== undefined && this.#running.includes(queue)) queue.kick.signal()
  }

  /** The driver writes configuration space, at any width. */
  writeConfigSpace(offset: number, bytes: Uint8Array): void {
    if (!this.maySetUp) return
    try {
      this.writeConfig(offset, bytes)
    } catch (error) {
      this.fault(error)
    }
  }

  /** Stops the device until the driver resets it, and tells it so. The first cause is the one that is kept. */
  fault(error: unknown, queue?: Virtqueue): void {
    if (this.#fault !== undefined) return
    const fault = faultOf(error, queue?.index)
    this.#fault = fault
    this.#stop()
    this.#setStatus(this.#status | NEEDS_RESET)
    this.#notifyConfig()
    queueMicrotask(() => this.emit('fault', fault))
  }

  #start(): void {
    if (this.#active) return
    this.#active = true
    try {
      this.activate()
    } catch (error) {
      this.#active = false
      this.fault(error)
      return
    }
    for (const queue of this.queues) if (queue.ready && this.#active) this.#startQueue(queue)
  }

  #stop(): void {
    if (!this.#active) return
    this.#active = false
    for (const queue of this.#running.splice(0).reverse()) this.stopQueue(queue)
    this.deactivate()
  }

  #startQueue(queue: Virtqueue): void {
    this.#running.push(queue)
    try {
      this.startQueue(queue)
    } catch (error) {
      this.#running.pop()
      this.fault(error, queue)
    }
  }

  #stopQueue(queue: Virtqueue): void {
    const at = this.#running.indexOf(queue)
    if (at < 0) return
    this.#running.splice(at, 1)
    this.stopQueue(queue)
  }

  #notifyConfig(): void {
    if (this.#status & DRIVER_OK) this.#transport?.configChanged()
  }

  #setStatus(status: number): void {
    if (status === this.#status) return
    this.#status = status
    this.#transport?.statusChanged(status)
    queueMicrotask(() => this.emit('state', statusNames(status)))
  }

  /** What it is now. */
  inspect(): VirtioDeviceState {
    const { cause, queue, message } = this.#fault ?? {}
    return {
      deviceId: this.deviceId,
      status: statusNames(this.#status),
      features: {
        offered: featureNames(this.offered, this.#names),
        accepted: featureNames(this.#accepted, this.#names),
      },
      queues: this.queues.map((queue) => queue.inspect()),
      fault: cause === undefined ? null : { cause, queue: queue ?? null, message: message ?? '' },
    }
  }

  /** Resets it and closes its eventfds. Close its transport first. Idempotent. */
  close(): void {
    this.reset()
    for (const queue of this.queues) queue.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
