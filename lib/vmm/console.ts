// The console of a machine as a stream: what its guest writes to its serial port is read, what is written is typed there.

import { Duplex } from 'node:stream'
import type { Serial } from './serial.ts'

/** What it needs of the port. */
export type ConsolePort = Pick<Serial, 'take' | 'put'>

type Done = (error?: Error | null) => void

/**
 * Whoever reads slowly makes the guest wait, once 64 KiB and a stream's buffer are full; while nobody has begun to read,
 * what the guest writes is lost, as on a line with nothing at its other end. What is typed waits until the guest takes it.
 * Reading ends when the machine does; what is typed at one that runs no more is dropped.
 */
export class Console extends Duplex {
  #serial: ConsolePort | undefined
  /** Somebody reads, or did. */
  #begun = false
  #wanted = false
  #untyped: { bytes: Uint8Array; done: Done } | undefined

  constructor(serial: ConsolePort) {
    super()
    this.#serial = serial
  }

  /** @internal There is something to take from the port, or room in it. */
  service(): void {
    this.#pull()
    this.#type()
  }

  /** @internal The guest runs no more: what is left is read, and nothing comes after it. */
  finish(): void {
    if (this.#serial === undefined) return
    const rest = this.#serial.take()
    this.#serial = undefined
    if (rest.length > 0) this.push(rest)
    this.push(null)
    this.#type()
  }

  #pull(): void {
    this.#begun ||= this.readableFlowing !== null
    const lost = !this.#begun || this.destroyed
    if (this.#serial === undefined || !(this.#wanted || lost)) return
    const bytes = this.#serial.take()
    if (bytes.length === 0 || lost) return
    // Asked for again by _read, which may be within push.
    this.#wanted = false
    this.push(bytes)
  }

  #type(): void {
    if (this.#untyped === undefined) return
    const { bytes, done } = this.#untyped
    const count = this.#serial === undefined ? bytes.length : this.#serial.put(bytes)
    this.#untyped = count < bytes.length ? { bytes: bytes.subarray(count), done } : undefined
    if (this.#untyped === undefined) done()
  }

  override _read(): void {
    this.#wanted = true
    this.#pull()
  }

  override _write(bytes: Uint8Array, _encoding: string, done: Done): void {
    this.#untyped = { bytes, done }
    this.#type()
  }
}
