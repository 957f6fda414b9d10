// What every vhost device answers: one method per ioctl (drivers/vhost/vhost.c). No policy.

import { VHOST_IOTLB } from '../abi/vhost.ts'
import {
  binding,
  FdHandle,
  type Hints,
  type IotlbMessage,
  type NativeFd,
  systemCall,
  type VringAddresses,
} from '../binding/index.ts'
import type { EventFd } from '../event/index.ts'
import type { NativeMemory } from '../memory/index.ts'
import { DirtyLog } from './dirty-log.ts'

const noFeaturesArray =
  'This kernel has 64 feature bits: the call is of Linux 6.17. Use getFeatures() and setFeatures().'
const noForkFromOwner = 'This kernel does not let the worker be chosen: the call is of Linux 6.17.'

const oneWorker =
  'A vhost-net fd has one worker, for both of its rings: open one fd for each queue pair. Only vhost-scsi has this call.'

const hints: Hints = {
  EPERM: 'The fd has no owner yet, or another process owns it: call setOwner() in the process that owns the memory.',
  'VHOST_SET_OWNER ENOTTY': 'The node, or the fd, is not of vhost.',
  'VHOST_SET_OWNER EBUSY': 'The fd has an owner already; every queue pair needs an fd of its own.',
  'VHOST_SET_OWNER ENOMEM': 'No worker could be started: check RLIMIT_NPROC and the pids limit of the cgroup.',
  'VHOST_SET_FEATURES EOPNOTSUPP': "A bit is not among the kernel's: mask with getFeatures().",
  'VHOST_SET_FEATURES EFAULT': 'The dirty log ends outside of user space: call setLogBase() first.',
  'VHOST_GET_FEATURES_ARRAY EPERM': noFeaturesArray,
  'VHOST_GET_FEATURES_ARRAY ENOBUFS': noFeaturesArray,
  'VHOST_SET_FEATURES_ARRAY EPERM': noFeaturesArray,
  'VHOST_SET_FEATURES_ARRAY ENOBUFS': noFeaturesArray,
  'VHOST_SET_FEATURES_ARRAY EOPNOTSUPP': "A bit is not among the kernel's: mask with getFeaturesArray().",
  'VHOST_SET_BACKEND_FEATURES EOPNOTSUPP': "A bit is not among the kernel's: mask with getBackendFeatures().",
  'VHOST_SET_FORK_FROM_OWNER EPERM': noForkFromOwner,
  'VHOST_SET_FORK_FROM_OWNER ENOTTY': noForkFromOwner,
  'VHOST_SET_FORK_FROM_OWNER ENOBUFS': noForkFromOwner,
  'VHOST_SET_FORK_FROM_OWNER EBUSY': 'The fd has an owner, and so a worker, already: choose before setOwner().',
  'VHOST_SET_FORK_FROM_OWNER EINVAL': 'A worker is VHOST_FORK_OWNER_KTHREAD (0) or VHOST_FORK_OWNER_TASK (1).',
  'VHOST_GET_FORK_FROM_OWNER EPERM': noForkFromOwner,
  'VHOST_GET_FORK_FROM_OWNER ENOTTY': noForkFromOwner,
  'VHOST_NEW_WORKER ENOTTY': oneWorker,
  'VHOST_FREE_WORKER ENOTTY': oneWorker,
  'VHOST_FREE_WORKER ENOBUFS': oneWorker,
  'VHOST_ATTACH_VRING_WORKER ENOTTY': oneWorker,
  'VHOST_GET_VRING_WORKER ENOTTY': oneWorker,
  'VHOST_SET_LOG_BASE EFAULT': 'The bitmap must reach up to the highest address of the memory table.',
  'VHOST_SET_LOG_FD EINVAL': 'The fd is not an eventfd.',
  'VHOST_SET_MEM_TABLE EFAULT': 'A region is empty, or ends outside of user space.',
  'VHOST_SET_VRING_ADDR EOPNOTSUPP': 'The only flag is 1 << VHOST_VRING_F_LOG.',
  'VHOST_SET_VRING_ADDR EINVAL': 'avail is aligned to 2 bytes, used to 4, and all parts lie in user space.',
  'VHOST_SET_VRING_BASE EINVAL': 'A ring goes on at an index of 0..65535.',
  'VHOST_SET_MEM_TABLE E2BIG': 'Too many regions: load the vhost module with a larger max_mem_regions.',
  'VHOST_SET_VRING_NUM EINVAL': 'A ring has a power of two of entries, at most 32768.',
  ENOTTY: 'This kernel was built without it (CONFIG_VHOST_CROSS_ENDIAN_LEGACY).',
  'write EINVAL': 'A range of the IOTLB has at least one byte.',
  'write EFAULT': 'The device has no IOTLB (agree on VIRTIO_F_ACCESS_PLATFORM, 33, first), or the range is empty.',
  EBADF: 'The fd was closed.',
  EBUSY: 'The ring is running: detach its backend first.',
  ENOBUFS: 'A vhost-net fd has two rings: 0 receives, 1 transmits.',
  EINVAL: 'An address is not aligned, or the fd is not an eventfd.',
}

/** A range of addresses of the device that from now on stands for one of `memory`. */
export interface IotlbUpdate {
  type: typeof VHOST_IOTLB.VHOST_IOTLB_UPDATE
  /** The first address, as descriptors and ring addresses have it. */
  iova: bigint
  /** Bytes, at least 1. */
  size: bigint
  /** VHOST_ACCESS_* */
  perm: number
  memory: NativeMemory
  /** Guest-physical address in `memory` of the first byte. */
  address: number
}

/** A range of addresses of the device that stands for nothing any more. */
export interface IotlbInvalidate {
  type: typeof VHOST_IOTLB.VHOST_IOTLB_INVALIDATE
  iova: bigint
  /** Bytes, at least 1: 0 is `EFAULT` in Linux 7.3, and takes back more than nothing in 6.1 and 6.12. */
  size: bigint
}

/** One open vhost device. Its worker exists from `setOwner` to `close`. */
export class Vhost extends FdHandle {
  #log = DirtyLog.none

  protected constructor(native: NativeFd, label: string) {
    super(native, label)
  }

  /** @internal Runs one call into the addon about this fd. */
  protected call<T>(operation: (fd: NativeFd) => T, context: Record<string, string | number> = {}, extra?: Hints): T {
    const fd = this.native
    return systemCall(() => operation(fd), { subject: this.label, context, hints: { ...hints, ...extra } })
  }

  /** Runs a call that changes what is logged and where, unless the bitmap would not do. */
  #relog(next: DirtyLog, call: () => void): void {
    call()
    this.#log = next
  }

  /** @internal @throws {GuestMemoryError} `ERR_GPA_NOT_LOGGED` where writes are to be logged and there is no bitmap */
  protected assertLog(): void {
    this.#log.assertBitmap()
  }

  /** VHOST_GET_FEATURES: the low 64 feature bits that this kernel's device knows. Needs no owner. */
  getFeatures(): bigint {
    return this.call((fd) => binding().vhostGetFeatures(fd))
  }

  /**
   * VHOST_SET_FEATURES: the agreed bits; bits from 64 on are cleared. Needs no owner. Legal while rings run, for
   * VHOST_F_LOG_ALL above all.
   * @throws {GuestMemoryError} `ERR_GPA_NOT_LOGGED`, as `setLogBase`
   * @throws {SystemCallError} `EOPNOTSUPP` for a bit that `getFeatures` does not have, `EFAULT`
   */
  setFeatures(features: bigint): void {
    const context = { features: `0x${features.toString(16)}` }
    this.#relog(this.#log.with({ features }), () => {
      this.call((fd) => binding().vhostSetFeatures(fd, features), context)
    })
  }

  /**
   * VHOST_GET_FEATURES_ARRAY: all 128 feature bits that this kernel's device knows. Linux 6.17. Needs no owner there.
   * @throws {SystemCallError} where the kernel does not have it: `EPERM` without an owner, `ENOBUFS` with one
   */
  getFeaturesArray(): bigint {
    return this.call((fd) => binding().vhostGetFeaturesArray(fd))
  }

  /**
   * VHOST_SET_FEATURES_ARRAY: the agreed bits, 0 ≤ `features` < 2¹²⁸. Linux 6.17. Needs no owner there.
   * @throws {GuestMemoryError} `ERR_GPA_NOT_LOGGED`, as `setLogBase`
   * @throws {SystemCallError} `EOPNOTSUPP` for a bit that `getFeaturesArray` does not have; `EPERM`, `ENOBUFS` where the
   * kernel does not have it
   */
  setFeaturesArray(features: bigint): void {
    const context = { features: `0x${features.toString(16)}` }
    this.#relog(this.#log.with({ features }), () => {
      this.call((fd) => binding().vhostSetFeaturesArray(fd, features), context)
    })
  }

  /** VHOST_GET_BACKEND_FEATURES: the VHOST_BACKEND_F_* bits. Needs no owner. */
  getBackendFeatures(): bigint {
    return this.call((fd) => binding().vhostGetBackendFeatures(fd))
  }

  /**
   * VHOST_SET_BACKEND_FEATURES: the VHOST_BACKEND_F_* bits to use, in force until the fd is closed. Needs no owner.
   * @throws {SystemCallError} `EOPNOTSUPP`
   */
  setBackendFeatures(features: bigint): void {
    this.call((fd) => binding().vhostSetBackendFeatures(fd, features), { features: `0x${features.toString(16)}` })
  }

  /**
   * VHOST_SET_FORK_FROM_OWNER: whether `setOwner` makes a thread of the kernel or of this process, one of
   * VHOST_FORK_OWNER_*. Linux 6.17, Debian's 6.12.48. `resetOwner` puts the vhost module's default back.
   * @throws {SystemCallError} `EBUSY` once there is an owner, `EINVAL`; `EPERM`, `ENOTTY`, `ENOBUFS` where the kernel does
   * not have it
   */
  setForkFromOwner(mode: number): void {
    this.call((fd) => binding().vhostSetForkFromOwner(fd, mode), { mode })
  }

  /** VHOST_GET_FORK_FROM_OWNER: what `setForkFromOwner` set, or the vhost module's default. @throws `EPERM`, `ENOTTY` */
  getForkFromOwner(): number {
    return this.call((fd) => binding().vhostGetForkFromOwner(fd))
  }

  /**
   * VHOST_NEW_WORKER: one more worker, and its id. Linux 6.5, and no vhost-net up to 7.3.
   * @throws {SystemCallError} `EPERM` without an owner; `ENOTTY` of every vhost-net
   */
  newWorker(): number {
    return this.call((fd) => binding().vhostNewWorker(fd))
  }

  /** VHOST_FREE_WORKER: ends a worker that serves no ring. @throws {SystemCallError} as `newWorker`, and `ENOBUFS` */
  freeWorker(worker: number): void {
    this.call((fd) => binding().vhostFreeWorker(fd, worker), { worker })
  }

  /** VHOST_ATTACH_VRING_WORKER: has a worker serve a ring. @throws {SystemCallError} as `newWorker`, and `ENOBUFS` */
  attachVringWorker(index: number, worker: number): void {
    this.call((fd) => binding().vhostAttachVringWorker(fd, index, worker), { index, worker })
  }

  /** VHOST_GET_VRING_WORKER: the id of the worker that serves a ring. @throws {SystemCallError} as `attachVringWorker` */
  getVringWorker(index: number): number {
    return this.call((fd) => binding().vhostGetVringWorker(fd, index), { index })
  }

  /** VHOST_SET_OWNER: binds the device to this process's memory and starts its worker. @throws `EBUSY`, `ENOMEM` */
  setOwner(): void {
    this.call((fd) => binding().vhostSetOwner(fd))
  }

  /** VHOST_RESET_OWNER: stops both rings and forgets everything. @throws `EPERM` */
  resetOwner(): void {
    this.#relog(DirtyLog.none, () => this.call((fd) => binding().vhostResetOwner(fd)))
  }

  /**
   * VHOST_SET_MEM_TABLE: replaces the table with all regions of `memory`, which stays mapped while this fd is open or
   * until it has another table. Legal while rings run.
   * @throws {GuestMemoryError} `ERR_GPA_TOO_MANY_REGIONS`; `ERR_GPA_NOT_LOGGED`, as `setLogBase`
   * @throws {SystemCallError} `EPERM`, `E2BIG`, `EFAULT`
   */
  setMemTable(memory: NativeMemory): void {
    const table = memory.memTable()
    this.#relog(this.#log.with({ table }), () => {
      this.call((fd) => binding().vhostSetMemTable(fd, table), { regions: table.length })
    })
  }

  /**
   * VHOST_SET_LOG_BASE: where the dirty bitmap of VHOST_F_LOG_ALL lies, which stays mapped while this fd is open or until
   * it has another. Bit n % 8 of byte n / 8 stands for the guest's bytes from n × VHOST_PAGE_SIZE on; the kernel sets bits
   * atomically and never clears one. It does not check that the bitmap is large enough, and would write past its end
   * (vhost.c: log_write), so this object does, in whatever order table, features, ring addresses and bitmap are set: with
   * VHOST_F_LOG_ALL it reaches up to the highest address of the memory table.
   * @param log memory of this process, apart from the guest's.
   * @param address guest-physical address in `log` of the first byte.
   * @param size bytes.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE` where the bitmap does not lie within one region of `log`,
   * `ERR_GPA_NOT_LOGGED` where it is too small
   * @throws {SystemCallError} `EPERM`, `EFAULT`
   */
  setLogBase(log: NativeMemory, address: number, size: number): void {
    const { mapping, offset } = log.locate(address, size)
    this.#relog(this.#log.with({ bitmap: size }), () => {
      this.call((fd) => binding().vhostSetLogBase(fd, mapping, offset, size), { address, size })
    })
  }

  /** VHOST_SET_LOG_FD: what is signalled when the dirty bitmap is written to; null removes it. @throws `EPERM`, `EBADF`, `EINVAL` */
  setLogFd(event: EventFd | null): void {
    this.call((fd) => binding().vhostSetLogFd(fd, event?.native ?? null))
  }

  /** VHOST_SET_VRING_NUM: entries of a ring. @throws `EPERM`, `EBUSY`, `EINVAL`, `ENOBUFS` */
  setVringNum(index: number, num: number): void {
    this.#relog(this.#log.withRing(index, { num }), () => {
      this.call((fd) => binding().vhostSetVringNum(fd, index, num), { index, num })
    })
  }

  /**
   * VHOST_SET_VRING_ADDR: host virtual addresses of a ring's parts; with the flag 1 << VHOST_VRING_F_LOG writes to the
   * used ring are logged as of the guest-physical `log_guest_addr`.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE` where it does not lie in the memory table, `ERR_GPA_NOT_LOGGED`
   * @throws {SystemCallError} `EPERM`, `EINVAL`, `ENOBUFS`
   */
  setVringAddr(index: number, addresses: VringAddresses): void {
    this.#relog(this.#log.withRing(index, { addresses: { ...addresses } }), () => {
      this.call((fd) => binding().vhostSetVringAddr(fd, index, addresses), { index })
    })
  }

  /** VHOST_SET_VRING_BASE: the available index the worker takes next, 0..65535. @throws `EPERM`, `EBUSY`, `EINVAL` */
  setVringBase(index: number, base: number): void {
    this.call((fd) => binding().vhostSetVringBase(fd, index, base), { index, base })
  }

  /** VHOST_GET_VRING_BASE: exact once the ring's backend is detached. @throws `EPERM`, `ENOBUFS` */
  getVringBase(index: number): number {
    return this.call((fd) => binding().vhostGetVringBase(fd, index), { index })
  }

  /**
   * VHOST_SET_VRING_ENDIAN: byte order of a legacy ring, one of VHOST_VRING_*_ENDIAN.
   * @throws {SystemCallError} `EPERM`, `ENOBUFS`; `ENOTTY` where the kernel has no CONFIG_VHOST_CROSS_ENDIAN_LEGACY, as
   * most; `EBUSY`, `EINVAL` where it has
   */
  setVringEndian(index: number, endian: number): void {
    this.call((fd) => binding().vhostSetVringEndian(fd, index, endian), { index, endian })
  }

  /** VHOST_GET_VRING_ENDIAN. @throws {SystemCallError} `EPERM`, `ENOBUFS`, `ENOTTY` */
  getVringEndian(index: number): number {
    return this.call((fd) => binding().vhostGetVringEndian(fd, index), { index })
  }

  /**
   * VHOST_SET_VRING_BUSYLOOP_TIMEOUT: for how many microseconds, 0..2³²−1, the worker polls for more work before it
   * sleeps; 0, as made, is not at all. Legal on a live ring. @throws {SystemCallError} `EPERM`, `ENOBUFS`
   */
  setVringBusyloopTimeout(index: number, microseconds: number): void {
    this.call((fd) => binding().vhostSetVringBusyloopTimeout(fd, index, microseconds), { index, microseconds })
  }

  /** VHOST_GET_VRING_BUSYLOOP_TIMEOUT: in microseconds. @throws {SystemCallError} `EPERM`, `ENOBUFS` */
  getVringBusyloopTimeout(index: number): number {
    return this.call((fd) => binding().vhostGetVringBusyloopTimeout(fd, index), { index })
  }

  /** VHOST_SET_VRING_KICK: what the driver signals; null removes it. @throws `EPERM`, `EINVAL`, `EBADF` */
  setVringKick(index: number, event: EventFd | null): void {
    this.call((fd) => binding().vhostSetVringKick(fd, index, event?.native ?? null), { index })
  }

  /** VHOST_SET_VRING_CALL: what the worker signals to the driver; null removes it. Legal on a live ring. */
  setVringCall(index: number, event: EventFd | null): void {
    this.call((fd) => binding().vhostSetVringCall(fd, index, event?.native ?? null), { index })
  }

  /** VHOST_SET_VRING_ERR: what the worker signals when it cannot go on; null removes it. */
  setVringErr(index: number, event: EventFd | null): void {
    this.call((fd) => binding().vhostSetVringErr(fd, index, event?.native ?? null), { index })
  }

  /**
   * Writes one IOTLB message (struct vhost_msg_v2) once VIRTIO_F_ACCESS_PLATFORM is among the features: ring addresses and
   * descriptors are then I/O virtual, and what an update maps stays mapped until this fd is closed or reset. Needs no
   * owner. @throws {GuestMemoryError} `ERR_GPA_RANGE` where the range does not lie within one region of `memory`
   * @throws {SystemCallError} `EINVAL` for an update of size 0, `EFAULT` where the device has no IOTLB
   */
  sendIotlb(message: IotlbUpdate | IotlbInvalidate): void {
    const { type, iova, size } = message
    const request =
      type === VHOST_IOTLB.VHOST_IOTLB_UPDATE
        ? { type, iova, size, perm: message.perm, ...message.memory.locate(message.address, Number(size)) }
        : { type, iova, size, perm: 0 }
    const context = { type, iova: `0x${iova.toString(16)}`, size: `0x${size.toString(16)}` }
    this.call((fd) => binding().vhostSendIotlb(fd, request), context)
  }

  /**
   * Reads the next IOTLB message: VHOST_IOTLB_MISS, with the address that the device needs. `size` means nothing in it,
   * and `perm` is VHOST_ACCESS_RO for a part of a ring, also one that the device writes. The fd is readable while there is
   * one.
   * @returns undefined where none is queued
   */
  receiveIotlb(): IotlbMessage | undefined {
    return this.call((fd) => binding().vhostReceiveIotlb(fd)) ?? undefined
  }
}
