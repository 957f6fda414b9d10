// Doorbells of a guest on KVM: ioeventfd.

import type { Doorbell, Doorbells, EventFd } from '../event/index.ts'
import type { KvmVm } from '../host/index.ts'

/** {@link Doorbells} of any VM: a write of the guest signals the eventfd in the kernel. */
export class KvmDoorbells implements Doorbells {
  readonly #vm: KvmVm

  constructor(vm: KvmVm) {
    this.#vm = vm
  }

  /** @throws {SystemCallError} `EEXIST` where another doorbell takes the same writes, `EINVAL`, `ENOSPC` */
  assign(doorbell: Doorbell, kick: EventFd): void {
    this.#vm.assignIoeventfd(doorbell, kick)
  }

  deassign(doorbell: Doorbell, kick: EventFd): void {
    this.#vm.deassignIoeventfd(doorbell, kick)
  }
}
