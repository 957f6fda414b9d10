// What the addon exports for machines: KVM's ioctls, vCPU threads, and what guests find on their bus.

import type { NativeBus, NativeFd, NativeMapping, NativeRegisters, NativeVcpuThread } from './natives.ts'

export interface MachineBinding {
  /** KVM_GET_API_VERSION; 12. */
  kvmGetApiVersion(kvm: NativeFd): number
  /** KVM_CHECK_EXTENSION of /dev/kvm or a VM: 0 where it is not there. `capability`: KVM_CAP_* */
  kvmCheckExtension(fd: NativeFd, capability: number): number
  kvmCreateVm(kvm: NativeFd): NativeFd
  kvmGetVcpuMmapSize(kvm: NativeFd): number
  /** struct kvm_cpuid_entry2, one after the other. */
  kvmGetSupportedCpuid(kvm: NativeFd): Uint8Array
  kvmSetTssAddr(vm: NativeFd, address: number): void
  kvmSetIdentityMapAddr(vm: NativeFd, address: number): void
  kvmCreateIrqchip(vm: NativeFd): void
  /** `flags`: KVM_PIT_SPEAKER_DUMMY */
  kvmCreatePit2(vm: NativeFd, flags: number): void
  /** Also keeps the mapping mapped until the VM's fd is closed or the slot gets another; null removes the slot. */
  kvmSetUserMemoryRegion(
    vm: NativeFd,
    slot: number,
    flags: number,
    guestAddress: number,
    mapping: NativeMapping | null,
  ): void
  /** The whole table: struct kvm_irq_routing_entry, one after the other. */
  kvmSetGsiRouting(vm: NativeFd, entries: Uint8Array): void
  kvmIrqLine(vm: NativeFd, gsi: number, asserted: boolean): void
  /** `flags`: KVM_IRQFD_FLAG_DEASSIGN, or 0. */
  kvmIrqfd(vm: NativeFd, event: NativeFd, gsi: number, flags: number): void
  /** `flags`: KVM_IOEVENTFD_FLAG_*; `length` 0 is any. */
  kvmIoeventfd(vm: NativeFd, event: NativeFd, address: number, length: number, datamatch: bigint, flags: number): void
  kvmCreateVcpu(vm: NativeFd, id: number): NativeFd
  /** struct kvm_cpuid_entry2, one after the other. */
  kvmSetCpuid2(vcpu: NativeFd, entries: Uint8Array): void
  /** struct kvm_regs, filled. */
  kvmGetRegs(vcpu: NativeFd, regs: Uint8Array): void
  kvmSetRegs(vcpu: NativeFd, regs: Uint8Array): void
  /** struct kvm_sregs, filled. */
  kvmGetSregs(vcpu: NativeFd, sregs: Uint8Array): void
  kvmSetSregs(vcpu: NativeFd, sregs: Uint8Array): void
  /** struct kvm_lapic_state, filled: the local APIC's registers. */
  kvmGetLapic(vcpu: NativeFd, lapic: Uint8Array): void
  kvmSetLapic(vcpu: NativeFd, lapic: Uint8Array): void

  busCreate(): NativeBus
  /**
   * Accesses within the window are asked with `id`, but for those that lie within the part that is the registers' own.
   * EEXIST: it overlaps another. EINVAL: it ends beyond the space.
   */
  busAdd(
    bus: NativeBus,
    space: 'ports' | 'memory',
    address: number,
    size: number,
    id: number,
    part: NativeRegisters | null,
    partOffset: number,
  ): void
  /** Accesses there are the registers' own, without JavaScript. */
  busAddRegisters(bus: NativeBus, space: 'ports' | 'memory', address: number, registers: NativeRegisters): void
  /** ENOENT: no window begins there. */
  busRemove(bus: NativeBus, space: 'ports' | 'memory', address: number): void
  closeBus(bus: NativeBus): void

  /**
   * A 16550A. Eventfds: its interrupt; and that there is something to take where there was nothing, or room again for what
   * serialPut had none for.
   */
  serialCreate(interrupt: NativeFd, ready: NativeFd): NativeRegisters
  /** What the guest wrote since. */
  serialTake(serial: NativeRegisters): Uint8Array
  /** How many of the bytes the port had room for. */
  serialPut(serial: NativeRegisters, bytes: Uint8Array): number
  /** A clock in CMOS, with the host's time. */
  rtcCreate(): NativeRegisters
  /** CONFIG_ADDRESS of PCI's configuration mechanism #1. */
  configAddressCreate(): NativeRegisters
  /** InterruptStatus and InterruptACK of virtio over MMIO, for so many queues. */
  interruptStatusCreate(queues: number): NativeRegisters
  interruptStatusStarted(status: NativeRegisters, started: boolean): void
  /** A queue's used index lies in the mapping, or is what interruptStatusUsed says. */
  interruptStatusBegin(status: NativeRegisters, queue: number, mapping: NativeMapping | null, offset: number): void
  interruptStatusUsed(status: NativeRegisters, queue: number, used: number): void
  interruptStatusEnd(status: NativeRegisters, queue: number): void
  interruptStatusConfig(status: NativeRegisters): void
  interruptStatusReset(status: NativeRegisters): void
  registersRead(registers: NativeRegisters, offset: number, width: number): number
  registersWrite(registers: NativeRegisters, offset: number, width: number, value: number): void
  closeRegisters(registers: NativeRegisters): void

  /**
   * A thread for the vCPU, held until vcpuResume. `ask` is called on this thread for an access to a window, and the vCPU
   * waits for what it returns; `ended` once, when the vCPU runs no more: KVM_EXIT_* and what KVM says of it, or an errno.
   */
  vcpuStart(
    vcpu: NativeFd,
    runSize: number,
    id: number,
    bus: NativeBus,
    ask: (window: number, offset: number, width: number, write: boolean, value: number) => number,
    ended: (exitReason: number, detail: number, errno: number) => void,
  ): NativeVcpuThread
  /** Returns once no instruction of the guest runs. */
  vcpuPause(thread: NativeVcpuThread): void
  vcpuResume(thread: NativeVcpuThread): void
  /** Writes the values of VCPU_COUNTERS, in that order. */
  vcpuCounters(thread: NativeVcpuThread, counters: Float64Array): void
  /** Ends the thread, and waits for it. May be called from within `ask`. */
  closeVcpuThread(thread: NativeVcpuThread): void
}
