// Ctrl-A, by which what is typed is for this program and not for the guest (as in QEMU's chardev/char-mux.c).

const CTRL_A = 1
const LEAVE = 'x'.charCodeAt(0)

/** Follows what is typed at a terminal, in however many pieces it comes. */
export class EscapeKey {
  #pending = false

  /** @returns what the guest is to get, and whether its user leaves: then what follows is dropped */
  take(bytes: Uint8Array): { typed: Uint8Array; left: boolean } {
    const typed: number[] = []
    for (const byte of bytes) {
      const escaped = this.#pending
      this.#pending = !escaped && byte === CTRL_A
      if (this.#pending) continue
      if (escaped && byte === LEAVE) return { typed: Uint8Array.from(typed), left: true }
      // Twice, it is one for the guest; before any other key it was meant for it as well.
      if (escaped && byte !== CTRL_A) typed.push(CTRL_A)
      typed.push(byte)
    }
    return { typed: Uint8Array.from(typed), left: false }
  }
}
