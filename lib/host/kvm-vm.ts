// /dev/kvm and its virtual machines: one method per ioctl (virt/kvm/kvm_main.c, arch/x86/kvm/x86.c). No policy.

import { KVM_DEVICE, KVM_IOEVENTFD_FLAG, KVM_IRQ_ROUTING_ENTRY, KVM_IRQFD_FLAG_DEASSIGN } from '../abi/kvm.ts'
import { adoptFd, binding, FdHandle, type Hints, type NativeFd, systemCall } from '../binding/index.ts'
import type { Doorbell, EventFd } from '../event/index.ts'
import { formatRange, type NativeMemory } from '../memory/index.ts'
import { Teardown } from '../teardown.ts'
import { KvmVcpu } from './kvm-vcpu.ts'

const hints: Hints = {
  'open ENOENT': 'Load the module, kvm_intel or kvm_amd. In a virtual machine its host must allow nesting.',
  'open ENODEV': 'The processor has no virtualization, or it is switched off in the firmware.',
  'open EACCES': 'Run as root, or join the group that owns the device (usually kvm).',
  'open EPERM': "The device cgroup forbids it: allow '/dev/kvm rw' (systemd: DeviceAllow=).",
  EMFILE: 'Raise the limit of open files (ulimit -n).',
  ENOTTY: 'The node, or the fd, is not of KVM.',
  EIO: 'A VM takes calls only in the process that made it.',
  'KVM_CREATE_IRQCHIP EEXIST': 'The VM has its interrupt controllers already.',
  'KVM_CREATE_IRQCHIP EINVAL': 'The interrupt controllers come before the first vCPU.',
  'KVM_CREATE_PIT2 EEXIST': 'The VM has its timer already.',
  'KVM_CREATE_PIT2 ENOENT':
    'The timer needs the interrupt controllers (older kernels do not say so): call createIrqchip() first.',
  'KVM_SET_USER_MEMORY_REGION EEXIST': 'Two slots of memory overlap.',
  'KVM_SET_USER_MEMORY_REGION EINVAL':
    'A slot is of whole pages of 4096 bytes, and what it has as memory changes only through its removal.',
  'KVM_IRQFD EBUSY': 'The eventfd interrupts this VM already.',
  'KVM_IRQFD EINVAL': 'The VM has no interrupt controllers: call createIrqchip() first.',
  'KVM_IRQ_LINE ENXIO': 'The VM has no interrupt controllers: call createIrqchip() first.',
  'KVM_IRQFD EBADF': 'The eventfd was closed.',
  'KVM_IOEVENTFD EEXIST': 'Another eventfd takes the same writes.',
  'KVM_IOEVENTFD ENOENT': 'No eventfd takes these writes.',
  'KVM_IOEVENTFD ENOSPC': 'A VM has at most 1000 devices on its bus.',
  'KVM_IOEVENTFD EINVAL': 'A write has 1, 2, 4 or 8 bytes; one of any width has no value to match.',
  'KVM_SET_GSI_ROUTING EINVAL': 'A route is of a GSI of 0..4095, an irqchip has each of its pins once.',
  'KVM_CREATE_VCPU EEXIST': 'The VM has a vCPU of this id.',
  'KVM_CREATE_VCPU EINVAL': 'The id is over the largest that this kernel has (KVM_CAP_MAX_VCPU_ID).',
}

/** One open virtual machine. */
export class KvmVm extends FdHandle {
  /** How many of its memory there are: the next one's number. */
  #slots = 0

  readonly #path: string
  #runSize: number | undefined

  private constructor(native: NativeFd, label: string, path: string) {
    super(native, label)
    this.#path = path
  }

  /**
   * KVM_CREATE_VM.
   * @param options.path another node than `/dev/kvm`.
   * @throws {SystemCallError} `ENOENT`, `ENODEV`, `EACCES`, `EPERM`, `EMFILE`, `ENOTTY`
   */
  static create({ path = KVM_DEVICE }: { path?: string } = {}): KvmVm {
    return withDevice(path, (kvm) => {
      const native = systemCall(() => binding().kvmCreateVm(kvm), { subject: path, hints })
      return new KvmVm(native, 'the VM', path)
    })
  }

  /**
   * Takes over the fd of a VM that other code of this process made: it is closed with this object, and the VM ends with its
   * last fd. KVM answers `EIO` to calls from another process than the VM's (virt/kvm/kvm_main.c: kvm_vm_ioctl).
   * @throws {SystemCallError} `EBADF`
   */
  static fromFd(fd: number, { path = KVM_DEVICE }: { path?: string } = {}): KvmVm {
    const label = `VM fd ${fd}`
    return new KvmVm(adoptFd(fd, label), label, path)
  }

  /** KVM_GET_API_VERSION, which is 12. @throws {SystemCallError} as `create` */
  static apiVersion(path: string = KVM_DEVICE): number {
    return withDevice(path, (kvm) => systemCall(() => binding().kvmGetApiVersion(kvm), { subject: path, hints }))
  }

  /**
   * KVM_GET_SUPPORTED_CPUID: what this processor and KVM can show a guest.
   * @returns struct kvm_cpuid_entry2, one after the other
   * @throws {SystemCallError} as `create`
   */
  static supportedCpuid(path: string = KVM_DEVICE): Uint8Array {
    return withDevice(path, (kvm) => systemCall(() => binding().kvmGetSupportedCpuid(kvm), { subject: path, hints }))
  }

  #call<T>(operation: (fd: NativeFd) => T, context: Record<string, string | number> = {}): T {
    const fd = this.native
    return systemCall(() => operation(fd), { subject: this.label, context, hints })
  }

  /** KVM_CHECK_EXTENSION of this VM: 0 where the kernel does not have it. @param capability KVM_CAP_* */
  checkExtension(capability: number): number {
    return this.#call((fd) => binding().kvmCheckExtension(fd, capability), { capability })
  }

  /** KVM_SET_TSS_ADDR: three pages below 4 GiB that Intel's processors need, and that no slot may have. */
  setTssAddr(guestAddress: number): void {
    this.#call((fd) => binding().kvmSetTssAddr(fd, guestAddress), { guestAddress })
  }

  /** KVM_SET_IDENTITY_MAP_ADDR: one page more, before the first vCPU. @throws {SystemCallError} `EINVAL` */
  setIdentityMapAddr(guestAddress: number): void {
    this.#call((fd) => binding().kvmSetIdentityMapAddr(fd, guestAddress), { guestAddress })
  }

  /** KVM_CREATE_IRQCHIP: two PICs, an I/O APIC, and a local APIC for each vCPU. @throws {SystemCallError} `EEXIST`, `EINVAL` */
  createIrqchip(): void {
    this.#call((fd) => binding().kvmCreateIrqchip(fd))
  }

  /** KVM_CREATE_PIT2: the i8254 timer. @param flags KVM_PIT_* @throws {SystemCallError} `EEXIST`, `ENOENT` */
  createPit2(flags: number): void {
    this.#call((fd) => binding().kvmCreatePit2(fd, flags))
  }

  /**
   * KVM_SET_USER_MEMORY_REGION: the guest sees all of `memory` from now on, a slot for each region; where one fails, none
   * of them. The memory stays mapped until the VM is closed.
   * @throws {SystemCallError} `EEXIST`, `EINVAL`, `ENOMEM`
   */
  addMemory(memory: NativeMemory): void {
    const before = this.#slots
    const undo = new Teardown()
    for (const { guest_phys_addr: guestAddress, memory_size: size, mapping } of memory.memTable()) {
      const slot = this.#slots
      try {
        this.#call((fd) => binding().kvmSetUserMemoryRegion(fd, slot, 0, guestAddress, mapping), {
          slot,
          range: formatRange(guestAddress, size),
        })
      } catch (error) {
        this.#slots = before
        throw undo.unwind(error)
      }
      this.#slots++
      undo.add(() => this.#call((fd) => binding().kvmSetUserMemoryRegion(fd, slot, 0, guestAddress, null), { slot }))
    }
  }

  /**
   * KVM_SET_GSI_ROUTING: replaces the whole table.
   * @param entries struct kvm_irq_routing_entry, one after the other
   * @throws {SystemCallError} `EINVAL`
   */
  setGsiRouting(entries: Uint8Array): void {
    const routes = entries.length / KVM_IRQ_ROUTING_ENTRY.size
    this.#call((fd) => binding().kvmSetGsiRouting(fd, entries), { routes })
  }

  /**
   * KVM_IRQ_LINE: the level of a pin, which stays.
   * @throws {SystemCallError} `ENXIO` without interrupt controllers, `EINVAL`
   */
  setIrqLine(gsi: number, asserted: boolean): void {
    this.#call((fd) => binding().kvmIrqLine(fd, gsi, asserted), { gsi })
  }

  /**
   * KVM_IRQFD: from now on a signal of `call` raises the GSI, and what it counted before does so at once.
   * @throws {SystemCallError} `EBUSY`, `EINVAL`
   */
  assignIrqfd(call: EventFd, gsi: number): void {
    this.#irqfd(call, gsi, 0)
  }

  /** Undoes `assignIrqfd`. What is signalled then stays in the eventfd. */
  deassignIrqfd(call: EventFd, gsi: number): void {
    this.#irqfd(call, gsi, KVM_IRQFD_FLAG_DEASSIGN)
  }

  #irqfd(call: EventFd, gsi: number, flags: number): void {
    this.#call((fd) => binding().kvmIrqfd(fd, call.native, gsi, flags), { gsi, event: call.label })
  }

  /**
   * KVM_IOEVENTFD: from now on writes of the guest to its memory signal `kick`.
   * @throws {SystemCallError} `EEXIST`, `EINVAL`, `ENOSPC`
   */
  assignIoeventfd(doorbell: Doorbell, kick: EventFd): void {
    this.#ioeventfd(doorbell, kick, 0)
  }

  /** Undoes `assignIoeventfd` with the same arguments. @throws {SystemCallError} `ENOENT` */
  deassignIoeventfd(doorbell: Doorbell, kick: EventFd): void {
    this.#ioeventfd(doorbell, kick, KVM_IOEVENTFD_FLAG.KVM_IOEVENTFD_FLAG_DEASSIGN)
  }

  #ioeventfd({ address, width = 0, value }: Doorbell, kick: EventFd, flags: number): void {
    const match = value === undefined ? 0 : KVM_IOEVENTFD_FLAG.KVM_IOEVENTFD_FLAG_DATAMATCH
    this.#call((fd) => binding().kvmIoeventfd(fd, kick.native, address, width, BigInt(value ?? 0), flags | match), {
      address: `0x${address.toString(16)}`,
      width,
      event: kick.label,
    })
  }

  /** KVM_CREATE_VCPU. @param id its APIC id, from 0 on. @throws {SystemCallError} `EEXIST`, `EINVAL`, `EMFILE` */
  createVcpu(id: number): KvmVcpu {
    this.#runSize ??= vcpuMmapSize(this.#path)
    const native = this.#call((fd) => binding().kvmCreateVcpu(fd, id), { id })
    return new KvmVcpu(native, id, this.#runSize)
  }
}

/** KVM_GET_VCPU_MMAP_SIZE: bytes of struct kvm_run and what follows it; the same for every vCPU of this kernel. */
function vcpuMmapSize(path: string): number {
  return withDevice(path, (kvm) => systemCall(() => binding().kvmGetVcpuMmapSize(kvm), { subject: path, hints }))
}

function withDevice<T>(path: string, use: (kvm: NativeFd) => T): T {
  const kvm = systemCall(() => binding().openDevice(path), { subject: path, hints })
  try {
    return use(kvm)
  } finally {
    binding().closeFd(kvm)
  }
}
