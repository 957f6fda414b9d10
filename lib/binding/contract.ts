// What the native addon exports: one function per system call or ioctl, on opaque handles it owns.
//
// Every function may throw an Error with `errno` (a positive errno number) and `syscall` (the UAPI's spelling);
// `lib/binding/system-call.ts` turns it into a SystemCallError. A handle is released when it is closed, when it is
// collected, and when its thread's environment ends, whichever is first.

declare const kind: unique symbol

/** An open file descriptor. */
export interface NativeFd {
  readonly [kind]: 'fd'
}

/** A range of memory shared with the kernel. */
export interface NativeMapping {
  readonly [kind]: 'mapping'
}

/** An epoll thread that reports readiness to the thread that made it. */
export interface NativePoller {
  readonly [kind]: 'poller'
}

/** The driver's end of one split virtqueue. */
export interface NativeRing {
  readonly [kind]: 'ring'
}

/** What lies at the addresses at which the guests of one VM leave their vCPUs. */
export interface NativeBus {
  readonly [kind]: 'bus'
}

/** Registers that are served on the thread of the vCPU. */
export interface NativeRegisters {
  readonly [kind]: 'registers'
}

/** A thread that runs a vCPU. */
export interface NativeVcpuThread {
  readonly [kind]: 'vCPU thread'
}

/** One entry of VHOST_SET_MEM_TABLE. */
export interface MemTableRegion {
  guest_phys_addr: number
  memory_size: number
  mapping: NativeMapping
  /** Where in the mapping the region begins, in bytes. */
  offset: number
}

/** The addresses of VHOST_SET_VRING_ADDR, host virtual. */
export interface VringAddresses {
  flags: number
  desc_user_addr: bigint
  used_user_addr: bigint
  avail_user_addr: bigint
  log_guest_addr: bigint
}

/** What VHOST_IOTLB_UPDATE and VHOST_IOTLB_INVALIDATE say. */
export interface IotlbRequest {
  /** VHOST_IOTLB_* */
  type: number
  iova: bigint
  size: bigint
  /** VHOST_ACCESS_* */
  perm: number
  /** Where the range lies, for an update: `size` bytes from `offset` of the mapping on. */
  mapping?: NativeMapping
  offset?: number
}

/** What the kernel asks of user space, VHOST_IOTLB_MISS. */
export interface IotlbMessage {
  type: number
  iova: bigint
  size: bigint
  perm: number
}

/** One instruction of classic BPF: struct sock_filter. */
export interface BpfInstruction {
  /** 16 bits: BPF_LD, BPF_RET, … */
  code: number
  /** 8 bits: instructions to skip where a jump's condition holds. */
  jt: number
  /** 8 bits: where it does not. */
  jf: number
  /** 32 bits, unsigned. */
  k: number
}

export interface TunInterface {
  name: string
  flags: number
}

/** Where a ring and its buffers lie; offsets are bytes into `mapping`. */
export interface RingConfig {
  mapping: NativeMapping
  /** Guest-physical address of the mapping's first byte. */
  guestAddress: number
  /** Entries: a power of two, 2..32768. */
  num: number
  desc: number
  avail: number
  used: number
  /** num × maxSegments descriptors of 16 bytes; used only with `indirect`. */
  indirectTables: number
  pool: number
  bufferSize: number
  bufferCount: number
  maxSegments: number
  /** Bytes of virtio-net header in front of each frame. */
  vnetHdrLen: number
  deviceWrites: boolean
  eventIdx: boolean
  indirect: boolean
  mrgRxbuf: boolean
  kick: NativeFd
}

/** A thread that keeps a ring in motion. */
export interface RingLoopConfig {
  call: NativeFd
  /** An eventfd, signalled when it has ended by itself. */
  done: NativeFd
  /** How many to make available again. */
  frames: number
  /** Frames at most between two looks at whether the device wants a kick. */
  batch: number
  /** Chains that must be used, less one, before the device is to call; 0..32767. */
  delay: number
}

export interface Binding {
  openDevice(path: string): NativeFd
  adoptFd(fd: number): NativeFd
  /** The number of an open fd; throws once closed. */
  fdNumber(fd: NativeFd): number
  fdClosed(fd: NativeFd): boolean
  closeFd(fd: NativeFd): void
  /** Gives the fd's number away: the caller closes it from now on. */
  detachFd(fd: NativeFd): number

  eventfdCreate(): NativeFd
  eventfdWrite(fd: NativeFd, value: bigint): void
  eventfdRead(fd: NativeFd): bigint

  /** `flags`: MFD_HUGETLB with a page size, or 0; close-on-exec and sealing are always on. */
  memfdCreate(name: string, flags: number): NativeFd
  ftruncate(fd: NativeFd, size: number): void
  /** F_ADD_SEALS. */
  addSeals(fd: NativeFd, seals: number): void
  /** F_GET_SEALS; F_SEAL_*. */
  getSeals(fd: NativeFd): number
  /** Magic number and block size of the file's file system. */
  fstatfs(fd: NativeFd): { type: number; bsize: number }
  mmapAnonymous(size: number): NativeMapping
  /** `reserve`: huge pages are set aside now, and ENOMEM where there are too few. */
  mmapShared(fd: NativeFd, offset: number, size: number, reserve: boolean): NativeMapping
  /** Memory of somebody else's; `owner` is kept until the mapping is closed and no vhost fd can see it. msync(2) checks it. */
  borrowRange(address: bigint, size: number, owner: object): NativeMapping
  /** The same of all bytes of an array on a SharedArrayBuffer. */
  borrowShared(bytes: Uint8Array<SharedArrayBuffer>): NativeMapping
  /** madvise(2) on the whole mapping; MADV_*. */
  mappingAdvise(mapping: NativeMapping, advice: number): void
  mappingAddress(mapping: NativeMapping): bigint
  /** A window without copy; detached when the mapping is closed. At most 2³⁰ bytes. */
  mappingView(mapping: NativeMapping, offset: number, length: number): ArrayBuffer
  mappingRead(mapping: NativeMapping, offset: number, target: Uint8Array): void
  mappingWrite(mapping: NativeMapping, offset: number, source: Uint8Array): void
  /** Detaches every view; the memory is unmapped once no vhost fd's table holds it. */
  closeMapping(mapping: NativeMapping): void

  vhostGetFeatures(fd: NativeFd): bigint
  vhostSetFeatures(fd: NativeFd, features: bigint): void
  /** 128 bits. */
  vhostGetFeaturesArray(fd: NativeFd): bigint
  vhostSetFeaturesArray(fd: NativeFd, features: bigint): void
  vhostGetBackendFeatures(fd: NativeFd): bigint
  vhostSetBackendFeatures(fd: NativeFd, features: bigint): void
  vhostSetForkFromOwner(fd: NativeFd, mode: number): void
  vhostGetForkFromOwner(fd: NativeFd): number
  vhostNewWorker(fd: NativeFd): number
  vhostFreeWorker(fd: NativeFd, worker: number): void
  vhostAttachVringWorker(fd: NativeFd, index: number, worker: number): void
  vhostGetVringWorker(fd: NativeFd, index: number): number
  vhostSetOwner(fd: NativeFd): void
  vhostResetOwner(fd: NativeFd): void
  /** Also keeps every mapping of the table mapped until the fd is closed or has another table. */
  vhostSetMemTable(fd: NativeFd, regions: readonly MemTableRegion[]): void
  /** Also keeps the mapping mapped until the fd is closed or has another log. */
  vhostSetLogBase(fd: NativeFd, mapping: NativeMapping, offset: number, size: number): void
  vhostSetLogFd(fd: NativeFd, event: NativeFd | null): void
  vhostSetVringNum(fd: NativeFd, index: number, num: number): void
  vhostSetVringAddr(fd: NativeFd, index: number, addresses: VringAddresses): void
  vhostSetVringBase(fd: NativeFd, index: number, base: number): void
  vhostGetVringBase(fd: NativeFd, index: number): number
  vhostSetVringEndian(fd: NativeFd, index: number, endian: number): void
  vhostGetVringEndian(fd: NativeFd, index: number): number
  vhostSetVringBusyloopTimeout(fd: NativeFd, index: number, microseconds: number): void
  vhostGetVringBusyloopTimeout(fd: NativeFd, index: number): number
  vhostSetVringKick(fd: NativeFd, index: number, event: NativeFd | null): void
  vhostSetVringCall(fd: NativeFd, index: number, event: NativeFd | null): void
  vhostSetVringErr(fd: NativeFd, index: number, event: NativeFd | null): void
  vhostNetSetBackend(fd: NativeFd, index: number, tap: NativeFd | null): void
  /** An update also keeps its mapping mapped until the fd is closed or loses its owner. */
  vhostSendIotlb(fd: NativeFd, request: IotlbRequest): void
  /** null where none is queued. */
  vhostReceiveIotlb(fd: NativeFd): IotlbMessage | null

  tunGetFeatures(fd: NativeFd): number
  tunSetIfindex(fd: NativeFd, ifindex: number): void
  tunSetIff(fd: NativeFd, name: string, flags: number): TunInterface
  tunGetIff(fd: NativeFd): TunInterface
  tunSetQueue(fd: NativeFd, flags: number): void
  tunSetOffload(fd: NativeFd, offload: number): void
  tunSetVnetHdrSz(fd: NativeFd, size: number): void
  tunGetVnetHdrSz(fd: NativeFd): number
  tunSetVnetLe(fd: NativeFd, littleEndian: boolean): void
  tunGetVnetLe(fd: NativeFd): boolean
  tunSetVnetBe(fd: NativeFd, bigEndian: boolean): void
  tunGetVnetBe(fd: NativeFd): boolean
  tunSetSndbuf(fd: NativeFd, bytes: number): void
  tunGetSndbuf(fd: NativeFd): number
  tunSetPersist(fd: NativeFd, persist: boolean): void
  tunSetOwner(fd: NativeFd, uid: number): void
  tunSetGroup(fd: NativeFd, gid: number): void
  tunSetCarrier(fd: NativeFd, carrier: boolean): void
  tunSetLink(fd: NativeFd, type: number): void
  /** NETIF_MSG_* */
  tunSetDebug(fd: NativeFd, messages: number): void
  tunSetNocsum(fd: NativeFd, disabled: boolean): void
  /** `addresses`: six bytes each. The number that match exactly, 0 where there is no filter now. */
  tunSetTxFilter(fd: NativeFd, flags: number, addresses: Uint8Array): number
  /** Also keeps the program where the kernel reads it again (TUNSETQUEUE), until the fd is closed or has another. */
  tunAttachFilter(fd: NativeFd, program: readonly BpfInstruction[]): void
  tunDetachFilter(fd: NativeFd): void
  /** Instructions. */
  tunGetFilter(fd: NativeFd): number
  /** The number of a program's fd, which stays the caller's. */
  tunSetSteeringEbpf(fd: NativeFd, program: number | null): void
  tunSetFilterEbpf(fd: NativeFd, program: number | null): void
  tunGetDevNetNs(fd: NativeFd): NativeFd

  /** `ethtool -k`: feature name → active. */
  ethtoolFeatures(ifname: string): Record<string, boolean>

  netlinkSocket(protocol: number, groups: number): NativeFd
  netlinkSend(fd: NativeFd, message: Uint8Array): void
  /** Fills the buffer with the next datagram and returns its length, 0 where none is queued. */
  netlinkReceive(fd: NativeFd, buffer: Uint8Array): number

  /** `ready` is called on this thread with the ids whose fds became readable; each then waits for `pollerRearm`. */
  pollerCreate(ready: (ids: number[]) => void): NativePoller
  pollerAdd(poller: NativePoller, id: number, fd: NativeFd): void
  pollerRearm(poller: NativePoller, id: number): void
  pollerRemove(poller: NativePoller, id: number): void
  /** Whether the poller keeps the event loop alive; it does not when made. */
  pollerRef(poller: NativePoller, keepAlive: boolean): void
  closePoller(poller: NativePoller): void

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

  /** A 16550A. Eventfds: its interrupt, and that there is something to take where there was nothing. */
  serialCreate(interrupt: NativeFd, output: NativeFd): NativeRegisters
  /** What the guest wrote since. */
  serialTake(serial: NativeRegisters): Uint8Array
  /** How many of the bytes the port had room for. */
  serialPut(serial: NativeRegisters, bytes: Uint8Array): number
  /** A clock in CMOS, with the host's time. */
  rtcCreate(): NativeRegisters
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

  ringCreate(config: RingConfig): NativeRing
  /** Kicks go to another eventfd from now on, which is kept open as the one before was. */
  ringSetKick(ring: NativeRing, kick: NativeFd): void
  /** Takes back what the device has sent, and up to `count` free buffers: their pool offsets, and the number taken. */
  ringAllocate(ring: NativeRing, offsets: Uint32Array, count: number): number
  /** As ringAllocate, into a burst of packets of one buffer each; as many as it and the ring have room for. */
  ringPrepare(ring: NativeRing, burst: Uint32Array, length: number): number
  /** Gives buffers back that were allocated or received and not sent; a receiving ring posts them. */
  ringRelease(ring: NativeRing, offsets: Uint32Array, count: number): void
  /**
   * Makes the packets of a burst available, from `firstPacket` on, and kicks if the device wants it. `burst`: the number
   * of packets that fit, of packets and of segments; then by packet the number of its segments; then as many offsets as
   * lengths, by segment. The number of packets accepted: fewer when the ring is full.
   */
  ringSend(ring: NativeRing, burst: Uint32Array, firstPacket: number, firstSegment: number): number
  /** Takes back what the device has sent; the number of packets. */
  ringReclaim(ring: NativeRing): number
  /** Makes free buffers available to be written to, and kicks if the device wants it; the number of buffers. */
  ringPost(ring: NativeRing): number
  /** Fills a burst with received packets, and posts free buffers; their number. Their buffers are to be released. */
  ringReceive(ring: NativeRing, burst: Uint32Array): number
  /** Asks for a call once more than `delay` chains are used; true where they are already. */
  ringArm(ring: NativeRing, delay: number): boolean
  /** Asks for no call. */
  ringDisarm(ring: NativeRing): void
  /** Looks for more than `delay` used chains again and again, at most that long; whether they came. */
  ringSpin(ring: NativeRing, delay: number, microseconds: number): boolean
  /** Chains that the device has. */
  ringInFlight(ring: NativeRing): number
  /** Writes the values of RING_COUNTERS, in that order. */
  ringCounters(ring: NativeRing, counters: Float64Array): void
  /** Until ringFinishLoop, a thread makes available again what the device returns, and all else but counters is EBUSY. */
  ringStartLoop(ring: NativeRing, config: RingLoopConfig): void
  /** Ends the loop where it has not ended, and waits for its thread; the frames that it made available again. */
  ringFinishLoop(ring: NativeRing): number
  closeRing(ring: NativeRing): void
}
