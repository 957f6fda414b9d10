// What every vhost device answers: one method per ioctl (drivers/vhost/vhost.c). No policy.

import { binding, FdHandle, type Hints, type NativeFd, systemCall, type VringAddresses } from '../binding/index.ts'
import type { EventFd } from '../event/index.ts'
import type { NativeMemory } from '../memory/index.ts'

const hints: Hints = {
  EPERM: 'The fd has no owner yet, or another process owns it: call setOwner() in the process that owns the memory.',
  'VHOST_SET_OWNER EBUSY': 'The fd has an owner already; every queue pair needs an fd of its own.',
  'VHOST_SET_OWNER ENOMEM': 'No worker could be started: check RLIMIT_NPROC and the pids limit of the cgroup.',
  'VHOST_SET_FEATURES EOPNOTSUPP': "A bit is not among the kernel's: mask with getFeatures().",
  'VHOST_SET_MEM_TABLE E2BIG': 'Too many regions: load the vhost module with a larger max_mem_regions.',
  'VHOST_SET_VRING_NUM EINVAL': 'A ring has a power of two of entries, at most 32768.',
  EBUSY: 'The ring is running: detach its backend first.',
  ENOBUFS: 'A vhost-net fd has two rings: 0 receives, 1 transmits.',
  EINVAL: 'An address is not aligned, or the fd is not an eventfd.',
}

/** One open vhost device. Its worker exists from `setOwner` to `close`. */
export class Vhost extends FdHandle {
  protected constructor(native: NativeFd, label: string) {
    super(native, label)
  }

  /** @internal Runs one call into the addon about this fd. */
  protected call<T>(operation: (fd: NativeFd) => T, context: Record<string, string | number> = {}, extra?: Hints): T {
    const fd = this.native
    return systemCall(() => operation(fd), { subject: this.label, context, hints: { ...hints, ...extra } })
  }

  /** VHOST_GET_FEATURES: the low 64 feature bits that this kernel's device knows. Needs no owner. */
  getFeatures(): bigint {
    return this.call((fd) => binding().vhostGetFeatures(fd))
  }

  /** VHOST_SET_FEATURES. @throws {SystemCallError} `EOPNOTSUPP`, `EFAULT` */
  setFeatures(features: bigint): void {
    this.call((fd) => binding().vhostSetFeatures(fd, features), { features: `0x${features.toString(16)}` })
  }

  /** VHOST_GET_BACKEND_FEATURES: the VHOST_BACKEND_F_* bits. Needs no owner. */
  getBackendFeatures(): bigint {
    return this.call((fd) => binding().vhostGetBackendFeatures(fd))
  }

  /** VHOST_SET_OWNER: binds the device to this process's memory and starts its worker. @throws `EBUSY`, `ENOMEM` */
  setOwner(): void {
    this.call((fd) => binding().vhostSetOwner(fd))
  }

  /** VHOST_RESET_OWNER: stops both rings and forgets everything. @throws `EPERM` */
  resetOwner(): void {
    this.call((fd) => binding().vhostResetOwner(fd))
  }

  /**
   * VHOST_SET_MEM_TABLE: replaces the table with all regions of `memory`, which stays mapped while this fd is open or
   * until it has another table. Legal while rings run. @throws {SystemCallError} `EPERM`, `E2BIG`, `EFAULT`
   */
  setMemTable(memory: NativeMemory): void {
    const table = memory.memTable()
    this.call((fd) => binding().vhostSetMemTable(fd, table), { regions: table.length })
  }

  /** VHOST_SET_VRING_NUM: entries of a ring. @throws `EPERM`, `EBUSY`, `EINVAL`, `ENOBUFS` */
  setVringNum(index: number, num: number): void {
    this.call((fd) => binding().vhostSetVringNum(fd, index, num), { index, num })
  }

  /** VHOST_SET_VRING_ADDR: host virtual addresses of a ring's parts. @throws `EPERM`, `EINVAL`, `ENOBUFS` */
  setVringAddr(index: number, addresses: VringAddresses): void {
    this.call((fd) => binding().vhostSetVringAddr(fd, index, addresses), { index })
  }

  /** VHOST_SET_VRING_BASE: the available index the worker takes next, 0..65535. @throws `EPERM`, `EBUSY`, `EINVAL` */
  setVringBase(index: number, base: number): void {
    this.call((fd) => binding().vhostSetVringBase(fd, index, base), { index, base })
  }

  /** VHOST_GET_VRING_BASE: exact once the ring's backend is detached. @throws `EPERM`, `ENOBUFS` */
  getVringBase(index: number): number {
    return this.call((fd) => binding().vhostGetVringBase(fd, index), { index })
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
}
