// Message-signalled interrupts of a guest on KVM: irqfd on GSIs whose messages the guest chooses.

import type { Message, MessageInterrupts } from '../event/index.ts'
import type { KvmVm } from '../host/index.ts'
import type { GsiRoutes } from './gsi-routes.ts'
import { KvmInterrupts } from './interrupts.ts'

/** {@link MessageInterrupts} of one device, such as a PCI function with MSI-X: a GSI for each of its vectors. */
export class KvmMessageInterrupts extends KvmInterrupts implements MessageInterrupts {
  readonly #routes: GsiRoutes
  readonly #gsis: readonly number[]
  #closed = false

  /**
   * Takes its GSIs of the VM's table.
   * @param routes of the same VM
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE` where there are not so many left
   */
  constructor(vm: KvmVm, routes: GsiRoutes, vectors: number) {
    const gsis = routes.allocate(vectors)
    super(vm, gsis)
    this.#routes = routes
    this.#gsis = gsis
  }

  setMessage(vector: number, message: Message | undefined): void {
    this.#routes.setMessage(this.gsi(vector), message)
  }

  /** One system call. @throws {SystemCallError} `ENOMEM` */
  commit(): void {
    this.#routes.commit()
  }

  /** Gives its GSIs back. Disconnect everything before: close the device's transport. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#routes.release(this.#gsis)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
