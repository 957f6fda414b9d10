// Interrupts of a guest on KVM: irqfd.

import type { EventFd, Interrupts } from '../event/index.ts'
import type { KvmVm } from '../host/index.ts'
import { checkInteger } from '../options.ts'

interface Vector {
  readonly calls: Set<EventFd>
  masked: boolean
}

/**
 * {@link Interrupts} of one device: vector n raises the n-th of its GSIs. While a vector is masked no irqfd reads its
 * eventfds, so that their counters are its pending bit; they are in no poll set, and wake nobody.
 */
export class KvmInterrupts implements Interrupts {
  readonly #vm: KvmVm
  readonly #gsis: readonly number[]
  readonly #vectors: readonly Vector[]

  /** @param gsis what each vector raises: pins of the I/O APIC that are edge-triggered, or messages that were routed. */
  constructor(vm: KvmVm, gsis: readonly number[]) {
    this.#vm = vm
    this.#gsis = gsis
    this.#vectors = gsis.map(() => ({ calls: new Set(), masked: false }))
  }

  /**
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE` for a vector that the device does not have
   * @throws {SystemCallError} `EBUSY` where the eventfd interrupts this VM already
   */
  connect(vector: number, call: EventFd): void {
    const { calls, masked } = this.#vector(vector)
    if (!masked) this.#assign(vector, call)
    calls.add(call)
  }

  disconnect(vector: number, call: EventFd): void {
    const { calls, masked } = this.#vector(vector)
    if (!calls.delete(call) || masked) return
    this.#vm.deassignIrqfd(call, this.gsi(vector))
  }

  mask(vector: number, masked: boolean): void {
    const state = this.#vector(vector)
    if (state.masked === masked) return
    for (const call of state.calls) {
      if (masked) this.#vm.deassignIrqfd(call, this.gsi(vector))
      else this.#assign(vector, call)
    }
    state.masked = masked
  }

  pending(vector: number): boolean {
    const { calls, masked } = this.#vector(vector)
    return masked && [...calls].some(isSignalled)
  }

  /**
   * KVM looks at the counter when it takes an eventfd (virt/kvm/eventfd.c: kvm_irqfd_assign), and raises the interrupt
   * where it is not 0, without setting it to 0: it would still be there when the vector is next masked.
   */
  #assign(vector: number, call: EventFd): void {
    this.#vm.assignIrqfd(call, this.gsi(vector))
    call.read()
  }

  /** @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
  protected gsi(vector: number): number {
    return this.#gsis[checkInteger(vector, 'vector', 0, this.#gsis.length - 1)] as number
  }

  #vector(vector: number): Vector {
    return this.#vectors[checkInteger(vector, 'vector', 0, this.#vectors.length - 1)] as Vector
  }
}

/** Nobody else reads it, so that what is taken and put back was there all the time. */
function isSignalled(call: EventFd): boolean {
  const count = call.read()
  if (count > 0n) call.signal(count)
  return count > 0n
}
