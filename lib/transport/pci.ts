// Virtio over PCI (virtio 1.x section 4.1): a function through which a guest reaches any virtio device. Modern only.

import { PCI_CLASS, PCI_COMMAND, PCI_MSIX_VECTORS_MAX } from '../abi/pci.ts'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../abi/virtio.ts'
import { PCI_VENDOR_ID_REDHAT_QUMRANET, VIRTIO_PCI_CAP, VIRTIO_PCI_ID } from '../abi/virtio-pci.ts'
import type { Doorbells, InterruptPin, MessageInterrupts, Registers } from '../event/index.ts'
import { checkInteger, checkObject } from '../options.ts'
import {
  Msix,
  type MsixState,
  type PciCapability,
  PciFunction,
  type PciFunctionState,
  RegisterMap,
} from '../pci/index.ts'
import { Teardown } from '../teardown.ts'
import { type DeviceTransport, featureSet, type VirtioDevice } from '../virtio/index.ts'
import { notifyCapability, virtioCapability } from './pci/capabilities.ts'
import { CommonConfig, type Selected } from './pci/common-config.ts'
import { ConfigWindow } from './pci/config-window.ts'
import { DeviceConfig } from './pci/device-config.ts'
import { NOTIFY_MULTIPLIER, NotifyRegisters } from './pci/doorbells.ts'
import { IsrStatus } from './pci/isr.ts'
import { PciVectors } from './pci/vectors.ts'

/** The BAR of virtio's structures, and that of MSI-X; both have 64 bits. */
const STRUCTURES_BAR = 0
const MSIX_BAR = 4
/** Structures begin at pages, so that a guest can map each by itself. */
const PAGE = 4096
const REVISION = 1
/** Subsystem ids of modern devices begin here (section 4.1.2.1). */
const FIRST_SUBSYSTEM_ID = 0x40
/** QEMU's, by which drivers for Windows know the device (include/hw/pci/pci.h, PCI_SUBDEVICE_ID_QEMU). */
const DEFAULT_SUBSYSTEM_ID = 0x1100
const LEAST_VECTORS = 2

/** What the class says of a device, by its type. */
const CLASSES: ReadonlyMap<number, number> = new Map([
  [1, PCI_CLASS.PCI_CLASS_NETWORK_ETHERNET],
  [2, PCI_CLASS.PCI_CLASS_STORAGE_SCSI],
  [3, PCI_CLASS.PCI_CLASS_COMMUNICATION_OTHER],
  [8, PCI_CLASS.PCI_CLASS_STORAGE_SCSI],
])

/** No virtual functions, no administration, and a doorbell takes a write of anything: not one with more in it. */
const WITHHELD = featureSet(
  VIRTIO_F.VIRTIO_F_SR_IOV,
  VIRTIO_F.VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F.VIRTIO_F_ADMIN_VQ,
)

export interface VirtioPciOptions {
  /** How the device interrupts a guest that uses MSI-X: as many vectors as `vectors`. */
  interrupts: MessageInterrupts
  /** How it interrupts one that does not. Default not at all. */
  pin?: InterruptPin
  /** Where kicks are taken without this process. Default the notification registers pass them on. */
  doorbells?: Doorbells
  /** 2..2048. Default {@link defaultVectors}. */
  vectors?: number
  /** Base class, sub-class, programming interface. Default by the device's type: 0x020000 for a network device. */
  classCode?: number
  /** Default 0x1af4. */
  subsystemVendorId?: number
  /** 0x40 at least (section 4.1.2.1). Default 0x1100. */
  subsystemId?: number
}

/** What a transport is now; JSON-safe. */
export interface VirtioPciState {
  function: PciFunctionState
  msix: MsixState
  /** The vectors of configuration changes and of each queue; null for none. */
  vectors: { config: number | null; queues: (number | null)[] }
  isr: number
  /** Queues whose kicks need no turn through this process. */
  doorbells: number
  selected: Selected
}

/** A vector for each queue and one for the configuration: 2N + 2 of a network device with N pairs. */
export function defaultVectors(device: VirtioDevice): number {
  return Math.min(device.queues.length + 1, PCI_MSIX_VECTORS_MAX)
}

/** One device's function. Plug it into a bus, and take it out and close it before the device. */
export class VirtioPciTransport implements DeviceTransport {
  readonly withheld = WITHHELD
  readonly function: PciFunction
  readonly #device: VirtioDevice
  readonly #undo = new Teardown()
  readonly #vectors: PciVectors
  readonly #isr: IsrStatus
  readonly #common: CommonConfig
  readonly #notify: NotifyRegisters
  readonly #msix: Msix
  #closed = false

  /**
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`
   * @throws {SystemCallError} `EMFILE`; what `interrupts` throws
   */
  constructor(device: VirtioDevice, options: VirtioPciOptions) {
    const known = ['interrupts', 'pin', 'doorbells', 'vectors', 'classCode', 'subsystemVendorId', 'subsystemId']
    checkObject(options, known)
    const vectors = checkInteger(
      options.vectors,
      'vectors',
      LEAST_VECTORS,
      PCI_MSIX_VECTORS_MAX,
      Math.max(LEAST_VECTORS, defaultVectors(device)),
    )
    this.#device = device
    this.#isr = new IsrStatus(device, (pending) => {
      this.function.interrupt = pending
    })
    this.#notify = new NotifyRegisters(device, options.doorbells)
    try {
      this.#vectors = this.#undo.own(new PciVectors(device, options.interrupts, vectors))
      this.#common = new CommonConfig(device, this.#vectors)
      const onEnable = (enabled: boolean): void => this.#useMessages(enabled)
      this.#msix = new Msix({ interrupts: options.interrupts, vectors, bar: MSIX_BAR, onEnable })
      this.function = this.#undo.own(this.#makeFunction(options))
    } catch (error) {
      throw this.#undo.unwind(error)
    }
    this.#undo.add(device.attach(this))
  }

  #makeFunction({ pin, classCode, subsystemVendorId, subsystemId }: VirtioPciOptions): PciFunction {
    const { deviceId } = this.#device
    const { registers, capabilities, notifyOffset } = this.#layOut()
    return new PciFunction({
      vendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
      deviceId: VIRTIO_PCI_ID.modern + deviceId,
      revision: REVISION,
      classCode: classCode ?? CLASSES.get(deviceId) ?? PCI_CLASS.PCI_CLASS_OTHERS,
      subsystemVendorId: subsystemVendorId ?? PCI_VENDOR_ID_REDHAT_QUMRANET,
      subsystemId: checkInteger(subsystemId, 'subsystemId', FIRST_SUBSYSTEM_ID, 0xffff, DEFAULT_SUBSYSTEM_ID),
      bars: [
        {
          index: STRUCTURES_BAR,
          registers,
          wide: true,
          onPlace: (address) => {
            this.#notify.address = address === undefined ? undefined : address + notifyOffset
          },
        },
        { index: MSIX_BAR, registers: this.#msix.registers, wide: true },
      ],
      capabilities: [...capabilities, new ConfigWindow(STRUCTURES_BAR, registers), this.#msix],
      ...(pin === undefined ? {} : { pin }),
      onCommand: (command, before) => this.#commandChanged(command, before),
      onReset: () => this.#device.reset(),
    })
  }

  /** Each structure at a page of its own, and the capability that says where. */
  #layOut(): { registers: RegisterMap; capabilities: PciCapability[]; notifyOffset: number } {
    const config = new DeviceConfig(this.#device)
    const structures: (readonly [type: number, registers: Registers])[] = [
      [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_COMMON_CFG, this.#common],
      [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_NOTIFY_CFG, this.#notify],
      [VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_ISR_CFG, this.#isr],
    ]
    // A type without configuration has no structure for it (section 4.1.4.6.1).
    if (config.size > 0) structures.push([VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_DEVICE_CFG, config])
    let end = 0
    let notifyOffset = 0
    const capabilities: PciCapability[] = []
    const placed = structures.map(([type, registers]) => {
      const offset = end
      end += Math.ceil(registers.size / PAGE) * PAGE
      const place = { type, bar: STRUCTURES_BAR, offset, length: registers.size }
      if (registers === this.#notify) notifyOffset = offset
      capabilities.push(
        registers === this.#notify ? notifyCapability(place, NOTIFY_MULTIPLIER) : virtioCapability(place),
      )
      return { offset, registers }
    })
    return { registers: new RegisterMap(placed), capabilities, notifyOffset }
  }

  #useMessages(enabled: boolean): void {
    this.#vectors.enabled = enabled
    this.#attempt(() => {
      this.#isr.messages = enabled
    })
  }

  /**
   * A guest that takes Bus Master away wants no more of its memory written, as one does that starts another kernel. What is
   * in the rings is lost, as in QEMU (hw/virtio/virtio-pci.c, virtio_write_config): the device needs a reset.
   */
  #commandChanged(command: number, before: number): void {
    const taken = (before & ~command & PCI_COMMAND.PCI_COMMAND_MASTER) !== 0
    const live = (this.#device.status & VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK) !== 0
    if (!taken || !live) return
    this.#device.fault(new Error('the guest took Bus Master away while the device ran'))
  }

  /** What the host cannot do is no exception in a guest's access. */
  #attempt(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#device.fault(error)
    }
  }

  /** @internal For the device. */
  configChanged(): void {
    this.#isr.configChanged()
    this.#vectors.signalConfig()
  }

  /** @internal For the device. */
  statusChanged(status: number): void {
    const live = (status & VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK) !== 0
    this.#msix.live = live
    this.#attempt(() => {
      this.#isr.live = live
    })
  }

  /** @internal For the device. */
  queueEnabled(): void {
    // The queue's eventfds are connected whether or not it is enabled.
  }

  /** @internal For the device. */
  queueDisabled(): void {
    // Likewise: what it signalled before is still to be told, unless it is reset.
  }

  /** @internal For the device. */
  reset(): void {
    this.#vectors.reset()
    this.#isr.reset()
    this.#common.reset()
  }

  /** What it is now. */
  inspect(): VirtioPciState {
    const orNull = (vector: number): number | null => (vector < this.#msix.vectors ? vector : null)
    return {
      function: this.function.inspect(),
      msix: this.#msix.inspect(),
      vectors: {
        config: orNull(this.#vectors.config),
        queues: this.#device.queues.map((queue) => orNull(this.#vectors.of(queue))),
      },
      isr: this.#isr.bits,
      doorbells: this.#notify.assigned,
      selected: this.#common.selected,
    }
  }

  /**
   * Disconnects doorbells and interrupts. The device is reset first, so that nothing rings into the void; the function
   * reads as one that is not there from then on. Idempotent.
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
