// Level-triggered pins of a guest on KVM: KVM_IRQ_LINE.

import type { InterruptPin } from '../event/index.ts'
import type { KvmVm } from '../host/index.ts'

/** One pin of the I/O APIC, and of the PIC for the first 16, that any number of devices share. */
export class KvmPins {
  readonly #vm: KvmVm
  readonly #gsi: number
  readonly #holders = new Set<InterruptPin>()

  /** @param gsi of the pin, level-triggered as the machine's tables tell the guest */
  constructor(vm: KvmVm, gsi: number) {
    this.#vm = vm
    this.#gsi = gsi
  }

  /** A device's share: the pin is asserted while any of them is. KVM knows this process as one source of interrupts. */
  share(): InterruptPin {
    const share: InterruptPin = {
      set: (asserted) => {
        const before = this.#holders.size > 0
        if (asserted) this.#holders.add(share)
        else this.#holders.delete(share)
        const now = this.#holders.size > 0
        if (now !== before) this.#vm.setIrqLine(this.#gsi, now)
      },
    }
    return share
  }
}
