// A device behind the registers of virtio-mmio, as a driver uses them (virtio 1.x sections 4.2.2.2 and 4.2.3).

import { VIRTIO_MMIO, VIRTIO_MMIO_INT, VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_VERSION_2 } from '../abi/virtio-mmio.ts'
import { DeviceError } from '../errors.ts'
import type { EventFd, Registers } from '../event/index.ts'
import type { LocalEvents } from './local-events.ts'
import { type InterruptCause, ProbedDevice, type QueuePlace } from './probed-device.ts'

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

export class MmioDevice extends ProbedDevice {
  override readonly deviceId: number
  readonly #registers: Registers
  readonly #bus: MmioBus | undefined

  private constructor(registers: Registers, deviceId: number, bus: MmioBus | undefined) {
    super()
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

  override get status(): number {
    return this.#read('VIRTIO_MMIO_STATUS')
  }

  protected override writeStatus(status: number): void {
    this.#write('VIRTIO_MMIO_STATUS', status)
  }

  protected override offeredWord(select: number): number {
    this.#write('VIRTIO_MMIO_DEVICE_FEATURES_SEL', select)
    return this.#read('VIRTIO_MMIO_DEVICE_FEATURES')
  }

  protected override acceptWord(select: number, word: number): void {
    this.#write('VIRTIO_MMIO_DRIVER_FEATURES_SEL', select)
    this.#write('VIRTIO_MMIO_DRIVER_FEATURES', word)
  }

  protected override get generation(): number {
    return this.#read('VIRTIO_MMIO_CONFIG_GENERATION')
  }

  protected override get configSize(): number {
    return this.#registers.size - CONFIG
  }

  protected override readConfigAt(offset: number, width: 1 | 2 | 4): number {
    return this.#registers.read(CONFIG + offset, width)
  }

  override queueSizeMax(index: number): number {
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.refuseEnabled(index, this.#read('VIRTIO_MMIO_QUEUE_READY') !== 0)
    return this.#read('VIRTIO_MMIO_QUEUE_NUM_MAX')
  }

  protected override place(_index: number, place: QueuePlace): boolean {
    this.#write('VIRTIO_MMIO_QUEUE_NUM', place.num)
    for (const part of ['desc', 'avail', 'used'] as const) {
      const [low, high] = ADDRESSES[part]
      this.#write(low, place[part] % 2 ** 32)
      this.#write(high, Math.floor(place[part] / 2 ** 32))
    }
    this.#write('VIRTIO_MMIO_QUEUE_READY', 1)
    return this.#read('VIRTIO_MMIO_QUEUE_READY') === 1
  }

  override disableQueue(index: number): void {
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.#write('VIRTIO_MMIO_QUEUE_READY', 0)
    if (this.#read('VIRTIO_MMIO_QUEUE_READY') === 0) return
    throw new DeviceError('ERR_DEVICE_BROKEN', `the device did not disable queue ${index}`)
  }

  protected override beginQueueReset(index: number): void {
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.#write('VIRTIO_MMIO_QUEUE_RESET', 1)
  }

  protected override isQueueResetDone(index: number): boolean {
    this.#write('VIRTIO_MMIO_QUEUE_SEL', index)
    return this.#read('VIRTIO_MMIO_QUEUE_RESET') === 0
  }

  override doorbell(index: number): EventFd | undefined {
    const notify = VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NOTIFY
    return this.#bus?.events.doorbell({ address: this.#bus.address + notify, width: 4, value: index })
  }

  override notify(index: number): void {
    this.#write('VIRTIO_MMIO_QUEUE_NOTIFY', index)
  }

  override takeInterrupt(): InterruptCause {
    const { VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INT_CONFIG } = VIRTIO_MMIO_INT
    const bits = this.#read('VIRTIO_MMIO_INTERRUPT_STATUS') & (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG)
    if (bits !== 0) this.#write('VIRTIO_MMIO_INTERRUPT_ACK', bits)
    return { used: (bits & VIRTIO_MMIO_INT_VRING) !== 0, config: (bits & VIRTIO_MMIO_INT_CONFIG) !== 0 }
  }
}
