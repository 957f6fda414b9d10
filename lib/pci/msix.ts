// MSI-X: a function's vectors, each with a message that the guest chooses and a mask (PCI 3.0 section 6.8.2).

import {
  PCI_CAP_ID,
  PCI_CAP_MSIX_SIZEOF,
  PCI_MSIX,
  PCI_MSIX_BIR,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_VECTORS_MAX,
} from '../abi/pci.ts'
import type { Message, MessageInterrupts, Registers } from '../event/index.ts'
import { checkInteger } from '../options.ts'
import type { PciCapability } from './config-part.ts'
import { MsixTable } from './msix-table.ts'
import { RegisterMap } from './register-map.ts'

/** Table and pending bits lie apart from each other, as other registers should from both (section 6.8.2). */
const PAGE = 4096
const { PCI_MSIX_FLAGS_ENABLE: ENABLE, PCI_MSIX_FLAGS_MASKALL: MASKALL } = PCI_MSIX_FLAGS

export interface MsixOptions {
  /** Takes the vectors' messages; who has the events connects them there. It has as many vectors. */
  interrupts: MessageInterrupts
  /** 1..2048 */
  vectors: number
  /** Behind which BAR `registers` lies. */
  bar: number
  /** Called when the guest has switched MSI-X on or off. */
  onEnable?: (enabled: boolean) => void
}

/** What MSI-X is now; JSON-safe. */
export interface MsixState {
  enabled: boolean
  functionMask: boolean
  vectors: number
  /** Those that are let go: enabled, not masked, of a function that is live. */
  unmasked: number[]
}

/**
 * A vector's message is taken over when the vector is unmasked, as section 6.8.2.9 allows it, so that what a guest writes into an
 * entry that is not masked is in force after the next unmasking, and as a whole.
 *
 * While the function is not `live` it has nothing to send, and all vectors are held back, whatever the guest unmasks. A
 * guest sets them up one by one, each with its message and mask; they are let go together when the function goes
 * live, with one commit.
 */
export class Msix implements PciCapability {
  readonly id = PCI_CAP_ID.PCI_CAP_ID_MSIX
  readonly bytes = new Uint8Array(PCI_CAP_MSIX_SIZEOF)
  readonly writable = new Uint8Array(PCI_CAP_MSIX_SIZEOF)
  /** Table and pending bits: what is to lie behind the BAR, from its first byte on. */
  readonly registers: Registers
  readonly vectors: number
  readonly #interrupts: MessageInterrupts
  readonly #table: MsixTable
  readonly #view = new DataView(this.bytes.buffer)
  readonly #onEnable: ((enabled: boolean) => void) | undefined
  /** By vector: whether it is masked in `interrupts`. */
  readonly #held: boolean[]
  /** By vector: the message that was set last. */
  readonly #messages: (Message | undefined)[]
  #enabled = false
  #live = false
  /** Messages were set, and are not in force yet. */
  #uncommitted = false

  /** Masks every vector. @throws {InvalidOptionError} `ERR_OPTION_RANGE`; what `interrupts` throws */
  constructor({ interrupts, vectors, bar, onEnable }: MsixOptions) {
    this.vectors = checkInteger(vectors, 'vectors', 1, PCI_MSIX_VECTORS_MAX)
    checkInteger(bar, 'bar', 0, 5)
    this.#interrupts = interrupts
    this.#onEnable = onEnable
    for (let vector = 0; vector < vectors; vector++) interrupts.mask(vector, true)
    this.#held = new Array<boolean>(vectors).fill(true)
    this.#messages = new Array<Message | undefined>(vectors).fill(undefined)
    this.#table = new MsixTable(vectors, (vector) => this.#settle([vector]))
    const pba = Math.ceil((vectors * PCI_MSIX_ENTRY_SIZE) / PAGE) * PAGE
    const pending = pendingBits(vectors, (vector) => this.#isPending(vector))
    this.registers = new RegisterMap([
      { offset: 0, registers: this.#table },
      { offset: pba, registers: pending },
    ])
    this.#view.setUint16(PCI_MSIX.PCI_MSIX_FLAGS, vectors - 1, true)
    this.#view.setUint32(PCI_MSIX.PCI_MSIX_TABLE, bar & PCI_MSIX_BIR, true)
    this.#view.setUint32(PCI_MSIX.PCI_MSIX_PBA, pba | (bar & PCI_MSIX_BIR), true)
    new DataView(this.writable.buffer).setUint16(PCI_MSIX.PCI_MSIX_FLAGS, ENABLE | MASKALL, true)
  }

  /** Whether the guest uses MSI-X: a function that does has no other interrupts. */
  get enabled(): boolean {
    return this.#enabled
  }

  /** Whether the function may have something to send. */
  set live(live: boolean) {
    if (live === this.#live) return
    this.#live = live
    this.#settle(this.#held.keys())
  }

  get #flags(): number {
    return this.#view.getUint16(PCI_MSIX.PCI_MSIX_FLAGS, true)
  }

  onWrite(): void {
    const enabled = (this.#flags & ENABLE) !== 0
    const changed = enabled !== this.#enabled
    this.#enabled = enabled
    if (changed && !enabled) this.#settle(this.#held.keys())
    if (changed) this.#onEnable?.(enabled)
    // What is connected only now is let go together with the rest.
    if (enabled) this.#settle(this.#held.keys())
  }

  onReset(): void {
    this.#table.reset()
    this.#view.setUint16(PCI_MSIX.PCI_MSIX_FLAGS, this.vectors - 1, true)
    this.onWrite()
  }

  #isMasked(vector: number): boolean {
    return !this.#enabled || !this.#live || (this.#flags & MASKALL) !== 0 || this.#table.isMasked(vector)
  }

  #isPending(vector: number): boolean {
    return this.#enabled && this.#held[vector] === true && this.#interrupts.pending(vector)
  }

  /** Brings `interrupts` to what the guest has written, with one commit at most. */
  #settle(vectors: Iterable<number>): void {
    const release: number[] = []
    for (const vector of vectors) {
      const masked = this.#isMasked(vector)
      if (masked === this.#held[vector]) continue
      if (!masked) {
        this.#takeOver(vector)
        release.push(vector)
        continue
      }
      this.#interrupts.mask(vector, true)
      this.#held[vector] = true
    }
    if (this.#uncommitted) this.#interrupts.commit()
    this.#uncommitted = false
    for (const vector of release) {
      this.#interrupts.mask(vector, false)
      this.#held[vector] = false
    }
  }

  #takeOver(vector: number): void {
    const { address, data } = this.#table.message(vector)
    const before = this.#messages[vector]
    if (before?.address === address && before.data === data) return
    const message = { address, data }
    this.#messages[vector] = message
    this.#interrupts.setMessage(vector, message)
    this.#uncommitted = true
  }

  /** What it is now. */
  inspect(): MsixState {
    return {
      enabled: this.#enabled,
      functionMask: (this.#flags & MASKALL) !== 0,
      vectors: this.vectors,
      unmasked: [...this.#held.keys()].filter((vector) => this.#held[vector] === false),
    }
  }
}

/** The pending bits: read-only, a bit for each vector, in whole units of 64 (section 6.8.2.10). */
function pendingBits(vectors: number, isPending: (vector: number) => boolean): Registers {
  return {
    size: Math.ceil(vectors / 64) * 8,
    read(offset, width) {
      if (width !== 4 || offset % 4 !== 0) return 0
      let bits = 0
      for (let bit = 0; bit < 32; bit++) {
        const vector = 8 * offset + bit
        if (vector < vectors && isPending(vector)) bits |= 1 << bit
      }
      return bits >>> 0
    },
    write() {
      // Read-only: a write has no effect.
    },
  }
}
