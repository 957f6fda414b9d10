// Virtio over MMIO, version 2 (virtio 1.x section 4.2): the registers through which a guest reaches any virtio device.
//
// Control registers take aligned accesses of 32 bits (section 4.2.2.2). Any other access to them, a read of a write-only
// or a write of a read-only register, and whatever lies between them reads 0 or does nothing. Configuration space takes
// any access. Selectors that name nothing read as what is not there: no features, a queue of size 0.

import { VIRTIO_CONFIG_S, VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_MMIO, VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_VERSION_2 } from '../abi/virtio-mmio.ts'
import {
  type Doorbell,
  type Doorbells,
  EventFd,
  InterruptStatus,
  type Interrupts,
  type NativePart,
  type Registers,
} from '../event/index.ts'
import { checkInteger, checkObject } from '../options.ts'
import { Teardown } from '../teardown.ts'
import { type DeviceTransport, featureSet, type VirtioDevice, type Virtqueue, type VringPart } from '../virtio/index.ts'

/** The least window, as others have it. */
const LEAST_SIZE = 0x200
/** Virtio's number among PCI vendors: there is no registry for MMIO. */
const DEFAULT_VENDOR = 0x1af4
/** An MMIO device has one interrupt. */
const VECTOR = 0
const ALL_ONES = 0xffff_ffff

/** Features of PCI, and NOTIFICATION_DATA: a doorbell takes a write of the queue's index, not one with more in it. */
const WITHHELD = featureSet(
  VIRTIO_F.VIRTIO_F_SR_IOV,
  VIRTIO_F.VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F.VIRTIO_F_ADMIN_VQ,
)

/** Which half of which address a register sets: 0 the lower one, 1 the higher. */
const ADDRESS_REGISTERS: ReadonlyMap<number, readonly [part: VringPart, half: 0 | 1]> = new Map([
  [VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_DESC_LOW, ['desc', 0]],
  [VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_DESC_HIGH, ['desc', 1]],
  [VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_AVAIL_LOW, ['avail', 0]],
  [VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_AVAIL_HIGH, ['avail', 1]],
  [VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_USED_LOW, ['used', 0]],
  [VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_USED_HIGH, ['used', 1]],
])

export interface VirtioMmioOptions {
  /** How the device interrupts the guest: vector 0, an edge. */
  interrupts: Interrupts
  /** Where kicks are taken without this process; needs `address`. Default: the notify register passes them on. */
  doorbells?: Doorbells
  /** Guest-physical address of the window. */
  address?: number
  /** What the vendor id register reads. Default 0x1af4. */
  vendorId?: number
}

/** What a transport is now; JSON-safe. */
export interface VirtioMmioState {
  address: number | null
  vendorId: number
  selected: { deviceFeatures: number; driverFeatures: number; queue: number }
}

/** One device's window. Give it to the bus, and close it before the device. */
export class VirtioMmioTransport implements Registers, DeviceTransport {
  readonly withheld = WITHHELD
  /** Bytes: control registers and configuration space, 512 at least. */
  readonly size: number
  /** InterruptStatus and InterruptACK, which a guest accesses once for each interrupt. */
  readonly nativePart: NativePart
  readonly #device: VirtioDevice
  readonly #address: number | undefined
  readonly #vendorId: number
  readonly #configCall: EventFd
  readonly #undo = new Teardown()
  readonly #interruptStatus: InterruptStatus
  #deviceFeaturesSel = 0
  #driverFeaturesSel = 0
  #queueSel = 0
  #closed = false

  /**
   * Connects every queue's eventfds, so that DRIVER_OK costs nothing.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`
   * @throws {SystemCallError} `EMFILE`; what `doorbells` and `interrupts` throw
   */
  constructor(device: VirtioDevice, options: VirtioMmioOptions) {
    checkObject(options, ['interrupts', 'doorbells', 'address', 'vendorId'])
    const { interrupts, doorbells, address } = options
    if (doorbells !== undefined || address !== undefined) {
      checkInteger(address, 'address', 0, Number.MAX_SAFE_INTEGER - VIRTIO_MMIO.VIRTIO_MMIO_CONFIG)
    }
    this.#vendorId = checkInteger(options.vendorId, 'vendorId', 0, ALL_ONES, DEFAULT_VENDOR)
    this.#device = device
    this.#address = address
    this.size = Math.max(LEAST_SIZE, VIRTIO_MMIO.VIRTIO_MMIO_CONFIG + device.config.size)
    this.#interruptStatus = this.#undo.own(new InterruptStatus(device.queues.length))
    this.nativePart = { offset: VIRTIO_MMIO.VIRTIO_MMIO_INTERRUPT_STATUS, registers: this.#interruptStatus }
    try {
      this.#configCall = this.#undo.own(EventFd.create('the configuration interrupt'))
      for (const call of [this.#configCall, ...device.queues.map((queue) => queue.call)]) {
        interrupts.connect(VECTOR, call)
        this.#undo.add(() => interrupts.disconnect(VECTOR, call))
      }
      if (doorbells !== undefined && address !== undefined) this.#assignDoorbells(doorbells, address)
    } catch (error) {
      throw this.#undo.unwind(error)
    }
    this.#undo.add(device.attach(this))
  }

  #assignDoorbells(doorbells: Doorbells, address: number): void {
    for (const { index, kick } of this.#device.queues) {
      const doorbell: Doorbell = { address: address + VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NOTIFY, width: 4, value: index }
      doorbells.assign(doorbell, kick)
      this.#undo.add(() => doorbells.deassign(doorbell, kick))
    }
  }

  read(offset: number, width: number): number {
    if (this.#closed) return 0
    if (offset >= VIRTIO_MMIO.VIRTIO_MMIO_CONFIG) {
      return isWidth(width) ? this.#device.config.read(offset - VIRTIO_MMIO.VIRTIO_MMIO_CONFIG, width) : 0
    }
    // No register is at an unaligned offset, so none answers there.
    return width === 4 ? this.#readRegister(offset) : 0
  }

  write(offset: number, width: number, value: number): void {
    if (this.#closed) return
    if (offset >= VIRTIO_MMIO.VIRTIO_MMIO_CONFIG) {
      if (!isWidth(width)) return
      const bytes = Uint8Array.from({ length: width }, (_, i) => value >>> (8 * i))
      this.#device.writeConfigSpace(offset - VIRTIO_MMIO.VIRTIO_MMIO_CONFIG, bytes)
      return
    }
    if (width === 4) this.#writeRegister(offset, value >>> 0)
  }

  #readRegister(offset: number): number {
    switch (offset) {
      case VIRTIO_MMIO.VIRTIO_MMIO_MAGIC_VALUE:
        return VIRTIO_MMIO_MAGIC
      case VIRTIO_MMIO.VIRTIO_MMIO_VERSION:
        return VIRTIO_MMIO_VERSION_2
      case VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_ID:
        return this.#device.deviceId
      case VIRTIO_MMIO.VIRTIO_MMIO_VENDOR_ID:
        return this.#vendorId
      case VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES:
        return this.#device.featureWord(this.#deviceFeaturesSel)
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NUM_MAX:
        return this.#queue?.sizeMax ?? 0
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_READY:
        return this.#queue?.ready === true ? 1 : 0
      case VIRTIO_MMIO.VIRTIO_MMIO_INTERRUPT_STATUS:
        return this.#readInterruptStatus()
      case VIRTIO_MMIO.VIRTIO_MMIO_STATUS:
        return this.#device.status
      // No region of shared memory exists: each has this length and this base.
      case VIRTIO_MMIO.VIRTIO_MMIO_SHM_LEN_LOW:
      case VIRTIO_MMIO.VIRTIO_MMIO_SHM_LEN_HIGH:
      case VIRTIO_MMIO.VIRTIO_MMIO_SHM_BASE_LOW:
      case VIRTIO_MMIO.VIRTIO_MMIO_SHM_BASE_HIGH:
        return ALL_ONES
      case VIRTIO_MMIO.VIRTIO_MMIO_CONFIG_GENERATION:
        return this.#device.config.generation
      // QueueReset among them: the reset is complete before the guest's write is.
      default:
        return 0
    }
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = value
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = value
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_DRIVER_FEATURES:
        this.#device.acceptFeatureWord(this.#driverFeaturesSel, value)
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NOTIFY:
        this.#device.notify(value)
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_INTERRUPT_ACK:
        this.#interruptStatus.acknowledge(value)
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_STATUS:
        this.#device.writeStatus(value)
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_SEL:
        this.#queueSel = value
        return
      default:
        if (this.#queue !== undefined && this.#device.maySetUp) this.#writeQueue(this.#queue, offset, value)
    }
  }

  #writeQueue(queue: Virtqueue, offset: number, value: number): void {
    switch (offset) {
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NUM:
        queue.size = value
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_READY:
        if (value === 1) this.#device.enableQueue(queue)
        else if (value === 0) this.#device.disableQueue(queue)
        return
      case VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_RESET:
        if (value === 1) this.#device.resetQueue(queue)
        return
      default: {
        const part = ADDRESS_REGISTERS.get(offset)
        if (part !== undefined) queue.setAddress(...part, value)
      }
    }
  }

  get #queue(): Virtqueue | undefined {
    return this.#device.queue(this.#queueSel)
  }

  #readInterruptStatus(): number {
    for (const queue of this.#device.queues) this.#tellUsed(queue)
    return this.#interruptStatus.read()
  }

  /** Of a queue in memory that is not native, which is served on this thread. */
  #tellUsed(queue: Virtqueue): void {
    if (queue.ready && queue.usedIndexPlace() === undefined) {
      this.#interruptStatus.setUsed(queue.index, queue.usedIndex() ?? 0)
    }
  }

  /** @internal For the device. */
  configChanged(): void {
    this.#interruptStatus.configChanged()
    this.#configCall.signal()
  }

  /** @internal For the device. */
  statusChanged(status: number): void {
    this.#interruptStatus.setStarted((status & VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK) !== 0)
  }

  /** @internal For the device. */
  queueEnabled(queue: Virtqueue): void {
    this.#interruptStatus.begin(queue.index, queue.usedIndexPlace())
  }

  /** @internal For the device. */
  queueDisabled(queue: Virtqueue): void {
    this.#tellUsed(queue)
    this.#interruptStatus.end(queue.index)
  }

  /** @internal For the device. */
  reset(): void {
    this.#interruptStatus.reset()
    this.#deviceFeaturesSel = 0
    this.#driverFeaturesSel = 0
    this.#queueSel = 0
  }

  /** What it is now. */
  inspect(): VirtioMmioState {
    return {
      address: this.#address ?? null,
      vendorId: this.#vendorId,
      selected: {
        deviceFeatures: this.#deviceFeaturesSel,
        driverFeatures: this.#driverFeaturesSel,
        queue: this.#queueSel,
      },
    }
  }

  /**
   * Disconnects doorbells and interrupts. The device is reset first, so that nothing rings into the void; the window
   * reads 0 from then on. Idempotent.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#device.reset()
    this.#undo.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function isWidth(width: number): boolean {
  return width === 1 || width === 2 || width === 4
}
