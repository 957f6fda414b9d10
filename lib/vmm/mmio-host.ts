// Where a machine's devices over MMIO lie, and the interrupt of each.

import type { GuestBus, KvmVm } from '../host/index.ts'
import { KvmDoorbells, KvmInterrupts } from '../kvm/index.ts'
import { checkInteger } from '../options.ts'
import { Teardown } from '../teardown.ts'
import { VirtioMmioTransport } from '../transport/index.ts'
import type { VirtioDevice } from '../virtio/index.ts'
import type { MmioDevice } from './acpi/tables.ts'
import { MEMORY_MAP } from './memory-map.ts'

/** Those below are a PC's own, those above the PCI bus's. */
const FIRST_GSI = 5
const LAST_GSI = 15
const WINDOW = 0x1000

export class MmioHost {
  /** In the order in which they were attached. */
  readonly devices: MmioDevice[] = []
  readonly #vm: KvmVm
  readonly #bus: GuestBus
  readonly #all = new Teardown()

  constructor(vm: KvmVm, bus: GuestBus) {
    this.#vm = vm
    this.#bus = bus
  }

  /** @throws {InvalidOptionError} `ERR_OPTION_RANGE` where there is no interrupt left for it */
  attach(device: VirtioDevice): VirtioMmioTransport {
    const index = this.devices.length
    const gsi = checkInteger(FIRST_GSI + index, 'interrupt', FIRST_GSI, LAST_GSI)
    const address = MEMORY_MAP.virtioMmio + WINDOW * index
    const interrupts = new KvmInterrupts(this.#vm, [gsi])
    const doorbells = new KvmDoorbells(this.#vm)
    const transport = this.#all.own(new VirtioMmioTransport(device, { interrupts, doorbells, address }))
    this.#bus.map('memory', address, transport)
    this.devices.push({ address, size: WINDOW, gsi })
    return transport
  }

  close(): void {
    this.#all.run()
  }
}
