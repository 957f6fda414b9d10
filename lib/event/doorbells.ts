// Guest address -> eventfd.

import type { EventFd } from './eventfd.ts'

/** Guest writes that are a kick. */
export interface Doorbell {
  /** Guest-physical address. */
  readonly address: number
  /** Bytes of the write: 1, 2, 4 or 8; undefined for any, which excludes `value`. */
  readonly width?: number
  /** Only writes of this value; undefined for any. */
  readonly value?: number
}

/**
 * Has writes of the guest signal eventfds without a turn through this process: KVM's ioeventfd. A write that matches
 * does not reach the {@link Registers} window that lies there; all others still do.
 */
export interface Doorbells {
  /** @throws where another doorbell takes the same writes, with KVM {@link SystemCallError} `EEXIST` */
  assign(doorbell: Doorbell, kick: EventFd): void
  /** Undoes `assign` with the same arguments. The eventfd stays open. */
  deassign(doorbell: Doorbell, kick: EventFd): void
}
