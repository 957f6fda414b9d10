// Message-signalled interrupts with a fault of choice, which a test that looks for lost ones is to find.

import type { EventFd, Message, MessageInterrupts } from '../../lib/event/index.ts'

export class FaultyInterrupts implements MessageInterrupts {
  /** Whether what is pending is forgotten, now that this vector is unmasked. */
  forgets: (vector: number) => boolean = () => false
  /** Whether this vector is left unmasked. */
  ignoresMask: (vector: number) => boolean = () => false
  /** Whether the message that this vector had is left to it. */
  keepsMessage: (vector: number) => boolean = () => false
  readonly #sound: MessageInterrupts
  readonly #calls = new Map<EventFd, number>()

  constructor(sound: MessageInterrupts) {
    this.#sound = sound
  }

  connect(vector: number, call: EventFd): void {
    this.#sound.connect(vector, call)
    this.#calls.set(call, vector)
  }

  disconnect(vector: number, call: EventFd): void {
    this.#sound.disconnect(vector, call)
    this.#calls.delete(call)
  }

  mask(vector: number, masked: boolean): void {
    if (masked && this.ignoresMask(vector)) return
    if (!masked && this.#sound.pending(vector) && this.forgets(vector)) {
      for (const [call, its] of this.#calls) if (its === vector) call.read()
    }
    this.#sound.mask(vector, masked)
  }

  pending(vector: number): boolean {
    return this.#sound.pending(vector)
  }

  setMessage(vector: number, message: Message | undefined): void {
    if (!this.keepsMessage(vector)) this.#sound.setMessage(vector, message)
  }

  commit(): void {
    this.#sound.commit()
  }
}
