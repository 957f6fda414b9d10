// The PCI bus of a machine: its host bridge, and virtio devices in its slots.

import { PCI_CLASS, PCI_CONFIG_PORTS_SIZE, PCI_SLOTS } from '../abi/pci.ts'
import { InvalidOptionError } from '../errors.ts'
import type { GuestBus, KvmVm } from '../host/index.ts'
import { GsiRoutes, KvmDoorbells, KvmMessageInterrupts, KvmPins } from '../kvm/index.ts'
import { ConfigPorts, Ecam, PciBus, PciFunction, type PciFunctionState } from '../pci/index.ts'
import { Teardown } from '../teardown.ts'
import { defaultVectors, VirtioPciTransport } from '../transport/index.ts'
import type { VirtioDevice } from '../virtio/index.ts'
import type { DescribedPci } from './acpi/tables.ts'
import { DeviceMemory } from './device-memory.ts'
import { ECAM_SIZE, MEMORY_MAP, PCI_WINDOW_SIZE } from './memory-map.ts'

const CONFIG_PORTS = 0xcf8
const HOST_BRIDGE_SLOT = 0
/** QEMU's host bridge without anything particular (include/hw/pci/pci.h): no driver is needed for it. */
const HOST_BRIDGE = { vendorId: 0x1b36, deviceId: 0x0008, classCode: PCI_CLASS.PCI_CLASS_BRIDGE_HOST }
/** Pins of the I/O APIC that no other device has; slots take turns. */
const FIRST_PIN = 16
const PINS = 4

export class PciHost {
  readonly #vm: KvmVm
  readonly #bus: PciBus
  readonly #ports: ConfigPorts
  readonly #routes: GsiRoutes
  readonly #doorbells: KvmDoorbells
  readonly #pins: readonly KvmPins[]
  readonly #devices = new Map<VirtioPciTransport, Teardown>()

  constructor(vm: KvmVm, bus: GuestBus) {
    this.#vm = vm
    this.#bus = new PciBus(new DeviceMemory(bus))
    this.#routes = new GsiRoutes(vm)
    this.#doorbells = new KvmDoorbells(vm)
    this.#pins = Array.from({ length: PINS }, (_, i) => new KvmPins(vm, FIRST_PIN + i))
    this.#bus.plug(HOST_BRIDGE_SLOT, new PciFunction(HOST_BRIDGE))
    this.#ports = new ConfigPorts(this.#bus)
    bus.map('ports', CONFIG_PORTS, this.#ports)
    bus.map('memory', MEMORY_MAP.ecam, new Ecam(this.#bus))
  }

  /** What a guest is told of it. */
  get description(): DescribedPci {
    return {
      ecam: { address: MEMORY_MAP.ecam, size: ECAM_SIZE },
      window: { address: MEMORY_MAP.pciWindow, size: PCI_WINDOW_SIZE },
      ports: { first: CONFIG_PORTS, count: PCI_CONFIG_PORTS_SIZE },
      pins: Array.from({ length: PCI_SLOTS }, (_, slot) => FIRST_PIN + (slot % PINS)),
    }
  }

  /**
   * Puts a device into the first slot that is free, with `vectors` of MSI-X.
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT` where no slot is free
   * @throws {SystemCallError} what KVM says
   */
  attach(device: VirtioDevice, vectors = defaultVectors(device)): VirtioPciTransport {
    const slot = Array.from({ length: PCI_SLOTS }, (_, i) => i).find((i) => this.#bus.at(i) === undefined)
    if (slot === undefined)
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'device', 'has no slot left on the PCI bus')
    const undo = new Teardown()
    try {
      const interrupts = undo.own(new KvmMessageInterrupts(this.#vm, this.#routes, vectors))
      const pin = (this.#pins[slot % PINS] as KvmPins).share()
      const options = { interrupts, pin, doorbells: this.#doorbells, vectors }
      const transport = undo.own(new VirtioPciTransport(device, options))
      this.#bus.plug(slot, transport.function)
      undo.add(() => this.#bus.unplug(slot))
      this.#devices.set(transport, undo)
      return transport
    } catch (error) {
      throw undo.unwind(error)
    }
  }

  /** Takes a device out, which is reset. A guest finds that out when it next looks. Does nothing to one that is not there. */
  detach(transport: VirtioPciTransport): void {
    const undo = this.#devices.get(transport)
    this.#devices.delete(transport)
    undo?.run()
  }

  /** What is in each slot. */
  inspect(): Record<number, PciFunctionState> {
    return this.#bus.inspect()
  }

  /** Takes all devices out. */
  close(): void {
    const all = new Teardown()
    all.own(this.#ports)
    for (const transport of this.#devices.keys()) all.add(() => this.detach(transport))
    all.run()
  }
}
