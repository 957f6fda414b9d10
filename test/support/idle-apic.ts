// A VM whose one vCPU never runs: interrupts come as far as its local APIC, and stay there to be looked at.

import { KVM_LAPIC } from '../../lib/abi/kvm.ts'
import { type KvmVcpu, KvmVm } from '../../lib/host/index.ts'

export class IdleApic {
  readonly vm: KvmVm
  readonly #vcpu: KvmVcpu
  readonly #fresh: Uint8Array

  /** With interrupt controllers, and the APIC switched on. */
  constructor() {
    this.vm = KvmVm.create()
    this.vm.createIrqchip()
    this.#vcpu = this.vm.createVcpu(0)
    this.#fresh = this.#vcpu.getLapic()
    new DataView(this.#fresh.buffer).setUint32(KVM_LAPIC.spiv, 0x1ff, true)
    this.acknowledge()
  }

  /** Whether an interrupt of this vector waits. */
  requested(vector: number): boolean {
    const lapic = new DataView(this.#vcpu.getLapic().buffer)
    return ((lapic.getUint32(KVM_LAPIC.irr + 16 * (vector >> 5), true) >>> (vector & 31)) & 1) === 1
  }

  /** Forgets all that wait. */
  acknowledge(): void {
    this.#vcpu.setLapic(this.#fresh)
  }

  close(): void {
    this.#vcpu.close()
    this.vm.close()
  }
}
