// Interrupts that are messages: what MSI and MSI-X are made of.

import type { Interrupts } from './interrupts.ts'

/** A message-signalled interrupt: what the device would write, and where. */
export interface Message {
  /** Guest-physical, 64 bits. */
  readonly address: bigint
  /** 32 bits. */
  readonly data: number
}

/**
 * {@link Interrupts} whose guest says what each vector raises. A new message is in force with the next `commit`, so that
 * a device with hundreds of vectors costs one change of the table that they are all in: KVM's GSI routing.
 */
export interface MessageInterrupts extends Interrupts {
  /** What the vector raises after the next `commit`; undefined for nothing. Called while the vector is masked. */
  setMessage(vector: number, message: Message | undefined): void
  /** Once it returns, all messages that were set are in force. */
  commit(): void
}
