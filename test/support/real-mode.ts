// A machine of one processor in real mode, for programs of a few bytes.

import { KVM_SREGS } from '../../lib/abi/kvm.ts'
import {
  GuestBus,
  type KvmVcpu,
  KvmVm,
  type RegisterName,
  type VcpuEnd,
  type VcpuThread,
} from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'

const CODE = 0x1000
/** Where `ds:0` is: no memory lies there. */
export const MMIO = 0xd000_0000

/** Has 64 KiB of memory at 0, and no interrupt controllers, so that `hlt` ends it. Held until `thread.resume()`. */
export class RealMode {
  readonly vm: KvmVm
  readonly memory: NativeMemory
  readonly bus: GuestBus
  readonly vcpu: KvmVcpu
  readonly thread: VcpuThread
  readonly ends: VcpuEnd[] = []
  readonly #all = new Teardown()

  constructor(program: readonly number[], registers: Partial<Record<RegisterName, bigint>> = {}) {
    try {
      this.vm = this.#all.own(KvmVm.create())
      this.memory = this.#all.own(GuestMemory.allocate({ size: 0x10000 }))
      this.vm.addMemory(this.memory)
      this.memory.write(CODE, Uint8Array.from(program))
      this.bus = this.#all.own(new GuestBus())
      this.vcpu = this.#all.own(this.vm.createVcpu(0))
      const system = this.vcpu.getSystemRegisters()
      const view = new DataView(system.buffer)
      view.setBigUint64(KVM_SREGS.segments.cs, 0n, true)
      view.setUint16(KVM_SREGS.segments.cs + 12, 0, true)
      view.setBigUint64(KVM_SREGS.segments.ds, BigInt(MMIO), true)
      this.vcpu.setSystemRegisters(system)
      this.vcpu.setRegisters({ rip: BigInt(CODE), rflags: 2n, ...registers })
      this.thread = this.#all.own(this.vcpu.start(this.bus, (end) => this.ends.push(end)))
    } catch (error) {
      throw this.#all.unwind(error)
    }
  }

  close(): void {
    this.#all.run()
  }
}
