// The notification structure: a doorbell for each queue, at an address of its own (virtio 1.x section 4.1.4.4).

import type { Doorbell, Doorbells, EventFd, Registers } from '../../event/index.ts'
import type { VirtioDevice } from '../../virtio/index.ts'

/** `notify_off_multiplier`: bytes from a queue's doorbell to the next one's. */
export const NOTIFY_MULTIPLIER = 4

interface Assigned {
  readonly doorbell: Doorbell
  readonly kick: EventFd
}

/**
 * A write of any value and width at a queue's address kicks it, so that KVM need not even decode the guest's instruction
 * (arch/x86/kvm/vmx/vmx.c, handle_ept_misconfig). What no doorbell takes comes to the registers.
 */
export class NotifyRegisters implements Registers {
  readonly size: number
  readonly #device: VirtioDevice
  readonly #doorbells: Doorbells | undefined
  #assigned: Assigned[] = []

  constructor(device: VirtioDevice, doorbells: Doorbells | undefined) {
    this.#device = device
    this.#doorbells = doorbells
    this.size = NOTIFY_MULTIPLIER * device.queues.length
  }

  read(): number {
    return 0
  }

  write(offset: number): void {
    if (offset % NOTIFY_MULTIPLIER === 0) this.#device.notify(offset / NOTIFY_MULTIPLIER)
  }

  /** Doorbells that are taken without this process. */
  get assigned(): number {
    return this.#assigned.length
  }

  /** The guest has placed the structure; undefined for nowhere. */
  set address(address: number | undefined) {
    const doorbells = this.#doorbells
    if (doorbells === undefined) return
    for (const { doorbell, kick } of this.#assigned) doorbells.deassign(doorbell, kick)
    this.#assigned = []
    if (address === undefined) return
    for (const { index, kick } of this.#device.queues) {
      const doorbell = { address: address + NOTIFY_MULTIPLIER * index }
      try {
        doorbells.assign(doorbell, kick)
        this.#assigned.push({ doorbell, kick })
      } catch {
        // A guest can place two devices at one address. The kicks of this one come to the registers, and cost an exit.
      }
    }
  }
}
