// One buffer that a driver made available: what it may be read from and written to.

import type { GuestMemory } from '../memory/index.ts'
import type { Piece } from './guest-bytes.ts'

const total = (pieces: readonly Piece[]): number => pieces.reduce((sum, { length }) => sum + length, 0)

/** Where in a list of pieces reading or writing has come to. */
class Cursor {
  readonly #pieces: readonly Piece[]
  #piece = 0
  #offset = 0
  left: number

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces
    this.left = total(pieces)
  }

  /** Walks `length` bytes on, which must be left. */
  advance(length: number, visit: (address: number, from: number, to: number) => void): void {
    for (let done = 0; done < length; ) {
      const piece = this.#pieces[this.#piece]!
      const count = Math.min(length - done, piece.length - this.#offset)
      visit(piece.address + this.#offset, done, done + count)
      done += count
      this.#offset += count
      if (this.#offset === piece.length) {
        this.#piece++
        this.#offset = 0
      }
    }
    this.left -= length
  }
}

/**
 * A buffer in the device's hands. Its readable bytes come first and can be taken once, its writable bytes filled once,
 * from front to back, however the driver cut them into descriptors (virtio 1.x section 2.7.4.1). The driver may change
 * readable bytes at any time: what `read` returned is a copy that stays.
 */
export class DescriptorChain {
  /** Index of the first descriptor, by which the buffer is returned. */
  readonly head: number
  /** Descriptors, those of an indirect table included. */
  readonly descriptors: number
  readonly #memory: GuestMemory
  readonly #readable: Cursor
  readonly #writable: Cursor
  #written = 0

  constructor(
    memory: GuestMemory,
    head: number,
    descriptors: number,
    readable: readonly Piece[],
    writable: readonly Piece[],
  ) {
    this.#memory = memory
    this.head = head
    this.descriptors = descriptors
    this.#readable = new Cursor(readable)
    this.#writable = new Cursor(writable)
  }

  /** Bytes that `read` has not taken yet. */
  get readable(): number {
    return this.#readable.left
  }

  /** Bytes that `write` has not filled yet. */
  get writable(): number {
    return this.#writable.left
  }

  /** Bytes written so far: the length with which the buffer is returned. */
  get written(): number {
    return this.#written
  }

  /**
   * Copies the next bytes; fewer where fewer are left. A driver may offer gigabytes: ask for no more than you have use for.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE` where the memory has gone meanwhile
   */
  read(length: number): Uint8Array {
    const bytes = new Uint8Array(Math.min(length, this.readable))
    this.#readable.advance(bytes.length, (at, from, to) => this.#memory.read(at, bytes.subarray(from, to)))
    return bytes
  }

  /**
   * Fills the next writable bytes. Returns how many there was room for.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE` where the memory has gone meanwhile
   */
  write(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.writable)
    this.#writable.advance(count, (at, from, to) => this.#memory.write(at, bytes.subarray(from, to)))
    this.#written += count
    return count
  }
}
