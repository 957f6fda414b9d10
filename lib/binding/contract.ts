// What the native addon exports: one function per system call or ioctl, on opaque handles it owns.
//
// Every function may throw an Error with `errno` (a positive errno number) and `syscall` (the UAPI's spelling);
// `lib/binding/system-call.ts` turns it into a SystemCallError. A handle is released when it is closed, when it is
// collected, and when its thread's environment ends, whichever is first.

import type { MachineBinding } from './machine-contract.ts'
import type {
  BpfInstruction,
  IotlbMessage,
  IotlbRequest,
  MemTableRegion,
  NativeFd,
  NativeMapping,
  NativePoller,
  NativeRing,
  NativeSampler,
  RingConfig,
  RingLoopConfig,
  TunInterface,
  VringAddresses,
} from './natives.ts'

export interface Binding extends MachineBinding {
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
  /** Where it has a huge page's size it begins on one. */
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

  /**
   * `suspect` is called on this thread for a ring whose used index stands still amid work while its worker runs, or sleeps
   * for long. It does not keep the event loop alive.
   */
  samplerCreate(suspect: (id: number) => void): NativeSampler
  /** A ring that this thread serves. */
  samplerAdd(sampler: NativeSampler, id: number, worker: number): void
  /** It runs. Offsets are those of the indexes. */
  samplerBegin(
    sampler: NativeSampler,
    id: number,
    avail: NativeMapping,
    availOffset: number,
    used: NativeMapping,
    usedOffset: number,
  ): void
  samplerEnd(sampler: NativeSampler, id: number): void
  samplerRemove(sampler: NativeSampler, id: number): void
  closeSampler(sampler: NativeSampler): void
  /** sched_setaffinity(2) of any thread. */
  schedSetaffinity(tid: number, cpus: Uint32Array): void
  schedGetaffinity(tid: number): number[]
  /** Nanoseconds for which a thread ran, by /proc/TID/schedstat. */
  threadCpuTime(tid: number): number

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
