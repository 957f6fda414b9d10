// A virtual processor: one method per ioctl (virt/kvm/kvm_main.c, arch/x86/kvm/x86.c). No policy.

import { KVM_LAPIC, KVM_REGS, KVM_SREGS } from '../abi/kvm.ts'
import { binding, FdHandle, type Hints, type NativeFd, systemCall } from '../binding/index.ts'
import { SystemCallError } from '../errors.ts'
import type { GuestBus } from './guest-bus.ts'
import { type VcpuEnd, VcpuThread } from './vcpu-thread.ts'

const noIrqchip = 'The VM has no interrupt controllers: call createIrqchip() before the vCPU is made.'

const hints: Hints = {
  'KVM_SET_CPUID2 E2BIG': 'There are more entries than this kernel takes.',
  'KVM_SET_CPUID2 EINVAL': 'The vCPU has run already, or the entries say what the processor cannot do.',
  'KVM_SET_SREGS EINVAL': 'A bit of cr0, cr4 or efer is reserved, or contradicts another.',
  'KVM_GET_LAPIC EINVAL': noIrqchip,
  'KVM_SET_LAPIC EINVAL': noIrqchip,
}

export type RegisterName = (typeof KVM_REGS)[number]

/** Where a vCPU stands; JSON-safe. */
export interface KvmVcpuState {
  id: number
  /** Hexadecimal. */
  rip: string
  rflags: string
  /** Vectors that wait for the vCPU in its local APIC, and those that it is serving; null without one. */
  interrupts: { requested: number[]; inService: number[] } | null
}

/** One processor of a {@link KvmVm}. */
export class KvmVcpu extends FdHandle {
  /** Its APIC id. */
  readonly id: number

  readonly #runSize: number

  /** @internal {@link KvmVm.createVcpu} makes them. */
  constructor(native: NativeFd, id: number, runSize: number) {
    super(native, `vCPU ${id}`)
    this.id = id
    this.#runSize = runSize
  }

  #call<T>(operation: (fd: NativeFd) => T): T {
    const fd = this.native
    return systemCall(() => operation(fd), { subject: this.label, hints })
  }

  /**
   * A thread that runs it, once that is resumed. Registers are to be set before, or while it is paused.
   * @param ended called once, when the vCPU cannot go on
   * @throws {SystemCallError} `EAGAIN`, `EBUSY`, `ENOMEM`
   */
  start(bus: GuestBus, ended: (end: VcpuEnd) => void): VcpuThread {
    const { id, label } = this
    return new VcpuThread(this.native, { id, label, runSize: this.#runSize, bus }, ended)
  }

  /**
   * KVM_SET_CPUID2: what the guest's CPUID answers. Before it first runs.
   * @param entries struct kvm_cpuid_entry2, one after the other
   * @throws {SystemCallError} `E2BIG`, `EINVAL`
   */
  setCpuid(entries: Uint8Array): void {
    this.#call((fd) => binding().kvmSetCpuid2(fd, entries))
  }

  /** KVM_GET_REGS. */
  getRegisters(): Record<RegisterName, bigint> {
    const words = new BigUint64Array(KVM_REGS.length)
    this.#call((fd) => binding().kvmGetRegs(fd, new Uint8Array(words.buffer)))
    return Object.fromEntries(KVM_REGS.map((name, i) => [name, words[i]])) as Record<RegisterName, bigint>
  }

  /** KVM_SET_REGS: all of them; one that is not given is 0. */
  setRegisters(registers: Partial<Record<RegisterName, bigint>>): void {
    const words = BigUint64Array.from(KVM_REGS, (name) => registers[name] ?? 0n)
    this.#call((fd) => binding().kvmSetRegs(fd, new Uint8Array(words.buffer)))
  }

  /** KVM_GET_SREGS: the bytes of struct kvm_sregs ({@link KVM_SREGS}). */
  getSystemRegisters(): Uint8Array {
    const bytes = new Uint8Array(KVM_SREGS.size)
    this.#call((fd) => binding().kvmGetSregs(fd, bytes))
    return bytes
  }

  /** KVM_SET_SREGS. @throws {SystemCallError} `EINVAL` */
  setSystemRegisters(bytes: Uint8Array): void {
    this.#call((fd) => binding().kvmSetSregs(fd, bytes))
  }

  /** KVM_GET_LAPIC: the registers of its local APIC. @throws {SystemCallError} `EINVAL` */
  getLapic(): Uint8Array {
    const bytes = new Uint8Array(KVM_LAPIC.size)
    this.#call((fd) => binding().kvmGetLapic(fd, bytes))
    return bytes
  }

  /** Where it stands. While it runs, KVM has this wait: pause it before. */
  inspect(): KvmVcpuState {
    const { rip, rflags } = this.getRegisters()
    const hex = (word: bigint): string => `0x${word.toString(16)}`
    return { id: this.id, rip: hex(rip), rflags: hex(rflags), interrupts: this.#interrupts() }
  }

  #interrupts(): KvmVcpuState['interrupts'] {
    let registers: Uint8Array
    try {
      registers = this.getLapic()
    } catch (error) {
      if (error instanceof SystemCallError && error.code === 'EINVAL') return null
      throw error
    }
    return { requested: vectorsIn(registers, KVM_LAPIC.irr), inService: vectorsIn(registers, KVM_LAPIC.isr) }
  }

  /** KVM_SET_LAPIC. @throws {SystemCallError} `EINVAL` */
  setLapic(bytes: Uint8Array): void {
    this.#call((fd) => binding().kvmSetLapic(fd, bytes))
  }
}

/** Set bits of one of the local APIC's 256-bit registers: 32 of them every 16 bytes. */
function vectorsIn(registers: Uint8Array, at: number): number[] {
  return Array.from({ length: 256 }, (_, vector) => vector).filter(
    (vector) => ((registers[at + 16 * (vector >> 5) + ((vector & 31) >> 3)] as number) >> (vector & 7)) & 1,
  )
}
