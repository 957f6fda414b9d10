// A network device driven through its registers: what a guest's kernel does with one, from the probe to its interrupts.

import { EventEmitter } from 'node:events'
import { VIRTIO_ID_NET, VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE } from '../abi/virtio-net.ts'
import { localMac, parseMac } from '../address.ts'
import { InvalidOptionError, StateError } from '../errors.ts'
import { type EventFd, watchReadable } from '../event/index.ts'
import { checkInteger, checkObject } from '../options.ts'
import { Teardown } from '../teardown.ts'
import { hasFeature } from '../virtio/features.ts'
import { COMMAND_RING_SIZE } from './command-ring.ts'
import { ControlQueue } from './control-queue.ts'
import { checkMemory, Driver, type DriverOptions, type DriverPair } from './driver.ts'
import { DRIVER_FEATURES, NIC_FEATURES, NIC_RULES } from './features.ts'
import { checkHealth, initialise } from './initialise.ts'
import { type NetConfig, readNetConfig } from './net-config.ts'
import type { ProbedDevice, QueuePlace } from './probed-device.ts'
import type { DriverQueue } from './queue.ts'

const ETHERNET_HEADER = 14

export interface GuestNicOptions extends Omit<DriverOptions, 'features'> {
  /** Address to use instead of the device's own, which is told of it. */
  mac?: string
}

export interface GuestNicEvents {
  /** The device changed its configuration space. */
  config: [config: NetConfig]
  /** The device wants peers to be told where it is now. It is told that they were when the listeners have returned. */
  announce: []
  /** The device needs a reset, or broke its rules: nothing that is in flight can be relied upon. */
  fault: [error: unknown]
}

/** One queue with the number by which the device knows it. */
interface Numbered {
  readonly index: number
  readonly place: QueuePlace
  readonly kick: EventFd
  /** Where packets are; the control queue looks for answers. */
  readonly packets?: DriverQueue
}

interface Parts {
  readonly config: NetConfig
  readonly driver: Driver
  readonly control: ControlQueue | undefined
  readonly queues: readonly Numbered[]
  /** Ends the passing on of kicks. */
  readonly kicks: Teardown
  /** Releases rings and eventfds, once the device uses them no more. */
  readonly rings: Teardown
}

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
function checkOptions(options: GuestNicOptions): void {
  checkObject(options, ['memory', 'queuePairs', 'queueSize', 'bufferSize', 'address', 'busyPoll', 'mac'])
  const { memory, mac, ...rest } = options
  checkMemory(memory)
  if (mac !== undefined) parseMac(mac, 'mac')
  Driver.memoryNeeded({ ...rest, features: DRIVER_FEATURES })
}

/**
 * A NIC whose device is reached through registers. Kicks signal the doorbells that stand for the notify register, or are
 * written there; who brings the device's interrupts calls `handleInterrupt`. For a device without registers, such as a backend, use a {@link Driver}.
 */
export class GuestNic extends EventEmitter<GuestNicEvents> {
  /** The features agreed on. */
  readonly features: bigint
  /** The control queue; undefined where CTRL_VQ was not agreed on. */
  readonly control: ControlQueue | undefined
  readonly #device: ProbedDevice
  readonly #offered: bigint
  readonly #driver: Driver
  readonly #queues: readonly Numbered[]
  readonly #kicks: Teardown
  readonly #rings: Teardown
  #config: NetConfig
  #mac: string
  #active = 1
  #closing: Promise<void> | undefined

  private constructor(device: ProbedDevice, offered: bigint, { config, driver, control, ...parts }: Parts) {
    super()
    this.features = device.accepted
    this.control = control
    this.#device = device
    this.#offered = offered
    this.#config = config
    this.#mac = config.mac ?? localMac()
    this.#driver = driver
    this.#queues = parts.queues
    this.#kicks = parts.kicks
    this.#rings = parts.rings
  }

  /**
   * Bytes of guest memory that a NIC with these options takes from its `address` on, whatever is agreed on.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   */
  static memoryNeeded({ mac: _, ...options }: Omit<GuestNicOptions, 'memory'>): number {
    return COMMAND_RING_SIZE + Driver.memoryNeeded({ ...options, features: DRIVER_FEATURES })
  }

  /**
   * Initialises the device, of which it uses as many queue pairs as there are and were asked for: one, until
   * `setQueuePairs` says otherwise.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`
   * @throws {DeviceError} `ERR_DEVICE_FEATURES`, `ERR_DEVICE_BROKEN`, `ERR_DEVICE_NEEDS_RESET`
   * @throws {QueueError} `ERR_QUEUE_SIZE` where a queue of the device is smaller than `queueSize`
   */
  static async start(device: ProbedDevice, options: GuestNicOptions): Promise<GuestNic> {
    checkOptions(options)
    const { mac } = options
    if (device.deviceId !== VIRTIO_ID_NET) {
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'device', `is of type ${device.deviceId}, no network device`)
    }
    const nic = await initialise(device, {
      known: NIC_FEATURES,
      rules: NIC_RULES,
      setUp: (_, offered, undo) => GuestNic.#setUp(device, offered, options, undo),
    })
    try {
      nic.#ringDoorbells()
      if (mac !== undefined && mac !== nic.mac) await nic.setMac(mac)
    } catch (error) {
      await nic.close()
      throw error
    }
    return nic
  }

  static #setUp(device: ProbedDevice, offered: bigint, options: GuestNicOptions, undo: Teardown): GuestNic {
    const features = device.accepted
    const config = readNetConfig(device, offered)
    const { memory, address = 0, mac: _, queuePairs = 1, ...rest } = options
    checkBuffers(features, config, rest.bufferSize)
    const rings = new Teardown()
    undo.add(() => rings.run())
    const driver = Driver.create({
      ...rest,
      memory,
      address: address + COMMAND_RING_SIZE,
      queuePairs: Math.min(queuePairs, hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_MQ) ? config.maxQueuePairs : 1),
      features: features & DRIVER_FEATURES,
    })
    rings.add(() => driver.destroy())
    rings.add(memory.pin(address, COMMAND_RING_SIZE, 'a control queue'))
    const control = hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ)
      ? rings.own(new ControlQueue({ memory, address, features }))
      : undefined
    const queues = numbered(driver, control, controlIndex(features, config))
    for (const { index, place } of queues) {
      device.enableQueue(index, place)
      undo.add(() => device.disableQueue(index))
    }
    const kicks = new Teardown()
    undo.add(() => kicks.run())
    passOn(queues, device, kicks)
    return new GuestNic(device, offered, { config, driver, control, queues, kicks, rings })
  }

  /** Only now: before DRIVER_OK the device must have no kick. */
  #ringDoorbells(): void {
    for (const { index, packets } of this.#queues) {
      const doorbell = this.#device.doorbell(index)
      if (doorbell !== undefined) packets?.kickThrough(doorbell)
    }
  }

  /** The pairs that are in use. */
  get pairs(): readonly DriverPair[] {
    return this.#driver.pairs.slice(0, this.#active)
  }

  /** What the device says of itself. */
  get config(): NetConfig {
    return this.#config
  }

  /** Its address: the device's, the one that was given instead, or a random one where the device has none. */
  get mac(): string {
    return this.#mac
  }

  get closed(): boolean {
    return this.#closing !== undefined
  }

  /** Changes the address, the device's too. Rejects as {@link ControlQueue} does. */
  async setMac(mac: string): Promise<void> {
    await this.#commands.setMac(mac)
    this.#mac = mac
  }

  /** Uses so many pairs from now on, of those that were set up. Rejects as {@link ControlQueue} does. */
  async setQueuePairs(pairs: number): Promise<void> {
    checkInteger(pairs, 'pairs', 1, this.#driver.pairs.length)
    const before = this.#active
    this.#active = Math.min(before, pairs)
    try {
      await this.#commands.setQueuePairs(pairs)
      this.#active = pairs
    } catch (error) {
      this.#active = before
      throw error
    }
  }

  get #commands(): ControlQueue {
    if (this.control !== undefined) return this.control
    throw new StateError('ERR_NOT_ACTIVE', 'the device has no control queue')
  }

  /**
   * The device interrupted. An interrupt for nothing does nothing.
   * @param vector by which it came, of a device that has several
   */
  handleInterrupt(vector?: number): void {
    if (this.closed) return
    const { used, config } = this.#device.takeInterrupt(vector)
    if (config) this.#configChanged()
    if (used) for (const { packets } of this.#queues) packets?.handleInterrupt()
  }

  #configChanged(): void {
    try {
      checkHealth(this.#device)
      this.#config = readNetConfig(this.#device, this.#offered)
    } catch (error) {
      this.control?.fail(error)
      this.emit('fault', error)
      return
    }
    this.emit('config', this.#config)
    if (this.#config.announce && hasFeature(this.features, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE)) {
      this.emit('announce')
      this.#commands.acknowledgeAnnounce().catch((error: unknown) => {
        if (!this.closed) this.emit('fault', error)
      })
    }
  }

  /**
   * Resets the device, then releases rings and eventfds; what is in flight is abandoned: await `tx.drained()` before, if
   * it is not to be. Idempotent.
   * @throws the reason of `signal`, with everything released, where the reset took longer
   */
  close(signal?: AbortSignal): Promise<void> {
    this.#closing ??= this.#resetAndRelease(signal)
    return this.#closing
  }

  async #resetAndRelease(signal: AbortSignal | undefined): Promise<void> {
    this.#kicks.run()
    try {
      await this.#device.reset(signal)
    } finally {
      this.#rings.run()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** It comes behind all pairs that there could be (section 5.1.2). */
function controlIndex(features: bigint, { maxQueuePairs }: NetConfig): number {
  return hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_MQ) ? 2 * maxQueuePairs : 2
}

function numbered({ pairs }: Driver, control: ControlQueue | undefined, index: number): Numbered[] {
  const numbers = pairs.flatMap(({ rx, tx }, pair) => [
    { index: 2 * pair, place: rx.vring, kick: rx.kick, packets: rx },
    { index: 2 * pair + 1, place: tx.vring, kick: tx.kick, packets: tx },
  ])
  return control === undefined ? numbers : [...numbers, { index, place: control.place, kick: control.kick }]
}

/**
 * Kicks that no doorbell takes reach the notify register from the event loop: after DRIVER_OK, before which the device
 * must have none.
 */
function passOn(queues: readonly Numbered[], device: ProbedDevice, undo: Teardown): void {
  for (const { index, kick, packets } of queues) {
    if (packets !== undefined && device.doorbell(index) !== undefined) continue
    const watch = watchReadable(kick, () => {
      kick.read()
      device.notify(index)
    })
    undo.add(() => watch.stop())
  }
}

/** Without MRG_RXBUF each buffer must hold the largest frame. */
function checkBuffers(features: bigint, { mtu = 1500 }: NetConfig, bufferSize = 2048): void {
  if (hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF)) return
  const least = VIRTIO_NET_HDR_SIZE + ETHERNET_HEADER + mtu
  if (bufferSize >= least) return
  const problem = `is ${bufferSize}, and without MRG_RXBUF a frame at the device's MTU takes ${least}`
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'bufferSize', problem)
}
