// Which message or pin each GSI of a VM raises (KVM_SET_GSI_ROUTING), and which GSIs are still free.

import { KVM_IOAPIC_NUM_PINS, KVM_IRQ_ROUTING, KVM_IRQ_ROUTING_ENTRY, KVM_IRQCHIP } from '../abi/kvm.ts'
import { InvalidOptionError } from '../errors.ts'
import type { Message } from '../event/index.ts'
import type { KvmVm } from '../host/index.ts'
import { checkInteger, checkObject } from '../options.ts'

/** KVM_MAX_IRQ_ROUTES (include/linux/kvm_host.h): of GSIs, and of entries in the table. */
const MOST_ROUTES = 4096
const PIC_PINS = 16
const PIC_CHIP_PINS = 8
/** The pin that the second PIC is connected to. */
const CASCADE = 2

/**
 * Where a write is an interrupt: 0xfee in bits 20 to 31, with bits 8 on of an x2APIC id in bits 40 on (Intel SDM volume 3,
 * section 12.11.1; Documentation/virt/kvm/api.rst, KVM_CAP_X2APIC_API). KVM looks at no other bit, but for bits 32 to 39,
 * one of which makes the whole table EINVAL where the ids are wide.
 */
const MESSAGE_ADDRESS_BITS = 0xff_fff0_0000n
const MESSAGE_ADDRESS = 0xfee0_0000n

export interface GsiRoutesOptions {
  /** The GSIs that may be given away: `first` on, so many. Default all that are no pin of the I/O APIC. */
  first?: number
  count?: number
  /**
   * What else is in the VM's table: struct kvm_irq_routing_entry, one after the other. KVM replaces the whole table, so
   * that an embedder with routes of its own hands them over here. Default those that KVM_CREATE_IRQCHIP makes.
   */
  others?: Uint8Array
}

/** The table of one VM. What changes is in effect with the next `commit`, in one system call however much it is. */
export class GsiRoutes {
  readonly #vm: KvmVm
  #others: Uint8Array
  readonly #free: number[]
  /** By GSI that is taken: its entry, where it raises something. */
  readonly #entries = new Map<number, Uint8Array | undefined>()

  /** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN` */
  constructor(vm: KvmVm, options: GsiRoutesOptions = {}) {
    checkObject(options, ['first', 'count', 'others'])
    const first = checkInteger(options.first, 'first', 0, MOST_ROUTES - 1, KVM_IOAPIC_NUM_PINS)
    this.#others = checkEntries(options.others ?? irqchipRoutes())
    // Each needs its entry in a table of as many, which the others are in, too.
    const most = MOST_ROUTES - Math.max(first, this.#others.length / KVM_IRQ_ROUTING_ENTRY.size)
    const count = checkInteger(options.count, 'count', 1, most, most)
    this.#vm = vm
    // The lowest is taken first.
    this.#free = Array.from({ length: count }, (_, i) => first + count - 1 - i)
  }

  /**
   * Takes GSIs, which raise nothing until they have a message.
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE` where there are not so many left; none is taken then
   */
  allocate(count: number): number[] {
    checkInteger(count, 'count', 0, this.#free.length)
    const gsis = this.#free.splice(this.#free.length - count).reverse()
    for (const gsi of gsis) this.#entries.set(gsi, undefined)
    return gsis
  }

  /** Gives them back: disconnected before, and without their messages after the next `commit`. */
  release(gsis: readonly number[]): void {
    for (const gsi of gsis) if (this.#entries.delete(gsi)) this.#free.push(gsi)
    this.#free.sort((a, b) => b - a)
  }

  /**
   * @param message undefined for none; one to an address that interrupts nobody is as none
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE` of a GSI that is not allocated
   */
  setMessage(gsi: number, message: Message | undefined): void {
    if (!this.#entries.has(gsi)) {
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'gsi', `must be one that was allocated, not ${gsi}`)
    }
    this.#entries.set(gsi, message !== undefined && isInterrupt(message) ? route(gsi, message) : undefined)
  }

  /**
   * What else is in the VM's table from the next `commit` on: an embedder whose own routes change sets them here, and calls
   * KVM_SET_GSI_ROUTING nowhere else. KVM takes 4096 entries in all.
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE`
   */
  setOthers(others: Uint8Array): void {
    this.#others = checkEntries(others)
  }

  /** KVM_SET_GSI_ROUTING, once. @throws {SystemCallError} `EINVAL`, `ENOMEM` */
  commit(): void {
    const messages = [...this.#entries.values()].filter((entry) => entry !== undefined)
    this.#vm.setGsiRouting(Buffer.concat([this.#others, ...messages]))
  }
}

function checkEntries(others: Uint8Array): Uint8Array {
  if (others.length % KVM_IRQ_ROUTING_ENTRY.size !== 0) {
    const problem = `must be whole entries, and has ${others.length} bytes`
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'others', problem)
  }
  return others.slice()
}

function isInterrupt({ address }: Message): boolean {
  return (address & MESSAGE_ADDRESS_BITS) === MESSAGE_ADDRESS
}

function entry(gsi: number, type: number): DataView {
  const view = new DataView(new ArrayBuffer(KVM_IRQ_ROUTING_ENTRY.size))
  view.setUint32(KVM_IRQ_ROUTING_ENTRY.gsi, gsi, true)
  view.setUint32(KVM_IRQ_ROUTING_ENTRY.type, type, true)
  return view
}

function route(gsi: number, { address, data }: Message): Uint8Array {
  const view = entry(gsi, KVM_IRQ_ROUTING.KVM_IRQ_ROUTING_MSI)
  const { msi } = KVM_IRQ_ROUTING_ENTRY
  view.setUint32(msi.address_lo, Number(address & 0xffff_ffffn), true)
  view.setUint32(msi.address_hi, Number(address >> 32n), true)
  view.setUint32(msi.data, data, true)
  return new Uint8Array(view.buffer)
}

/** As KVM_CREATE_IRQCHIP has them: a GSI below 16 raises a pin of a PIC and one of the I/O APIC (irq_comm.c). */
function irqchipRoutes(): Uint8Array {
  const pin = (gsi: number, chip: number, number: number): Uint8Array => {
    const view = entry(gsi, KVM_IRQ_ROUTING.KVM_IRQ_ROUTING_IRQCHIP)
    view.setUint32(KVM_IRQ_ROUTING_ENTRY.irqchip.irqchip, chip, true)
    view.setUint32(KVM_IRQ_ROUTING_ENTRY.irqchip.pin, number, true)
    return new Uint8Array(view.buffer)
  }
  const { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC } = KVM_IRQCHIP
  const routes = Array.from({ length: KVM_IOAPIC_NUM_PINS }, (_, gsi) => {
    const ioapic = pin(gsi, KVM_IRQCHIP_IOAPIC, gsi)
    if (gsi >= PIC_PINS || gsi === CASCADE) return [ioapic]
    const chip = gsi < PIC_CHIP_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE
    return [ioapic, pin(gsi, chip, gsi % PIC_CHIP_PINS)]
  })
  return Buffer.concat(routes.flat())
}
