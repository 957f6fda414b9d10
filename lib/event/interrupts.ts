// Eventfd -> guest.

import type { EventFd } from './eventfd.ts'

/**
 * Has eventfds interrupt the guest without a turn through this process: KVM's irqfd. Vectors count from 0; a device with
 * one line has only that. Several eventfds may share a vector.
 */
export interface Interrupts {
  /** From now on a signal of `call` raises the interrupt. What it counted before is not lost: it raises it, too. */
  connect(vector: number, call: EventFd): void
  /** Undoes `connect`. Signals count in the eventfd from then on; it stays open. */
  disconnect(vector: number, call: EventFd): void
  /**
   * Holds the interrupt back, or lets it go: what was signalled meanwhile raises it then, once. A masked vector costs
   * nobody a wake-up.
   */
  mask(vector: number, masked: boolean): void
  /** Whether it was signalled while masked. Asked, not told: reading it does not take it away. */
  pending(vector: number): boolean
}
