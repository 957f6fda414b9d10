// Frames as a Node.js stream.

import { Duplex } from 'node:stream'
import type { Frame } from './frame.ts'
import type { FramePort } from './frame-port.ts'
import type { FrameReader } from './frame-reader.ts'

type Written = Frame | Uint8Array

export interface FrameStreamOptions {
  /** Frames held on either side, 16 by default: of those read that nobody consumed, and of those written for which the
   * ring has no room. */
  highWaterMark?: number
}

/**
 * A port as a Duplex in object mode: reads {@link ReceivedFrame}s, takes Frames or their bytes. So two ports are a cable:
 * `a.pipe(b).pipe(a)`.
 *
 * - Reading: nothing is taken from the ring beyond `highWaterMark`; what nobody reads stays there. Ends when the port is
 *   closed.
 * - Writing: `write` returns false, and `'drain'` follows, as long as the ring has no room. A frame or header that is
 *   refused destroys the stream with its error.
 * - `end()`: `'finish'` comes when the device has returned everything.
 * - `destroy()` drops what it holds and abandons waiting; port and driver go on. An error of the queue destroys it.
 */
export class FrameStream extends Duplex {
  readonly #port: FramePort
  readonly #reader: FrameReader
  readonly #stopping = new AbortController()
  #reading = false

  constructor(port: FramePort, { highWaterMark = 16 }: FrameStreamOptions = {}) {
    // Once there is nothing to read any more the port is closed: nothing could be written either.
    super({ objectMode: true, highWaterMark, allowHalfOpen: false })
    this.#port = port
    this.#reader = port.frames()
  }

  override _read(): void {
    if (!this.#reading) void this.#pull()
  }

  async #pull(): Promise<void> {
    this.#reading = true
    try {
      for (let more = true; more; ) {
        const { value = null } = await this.#reader.next()
        more = this.push(value) && value !== null
      }
    } catch (error) {
      this.destroy(error as Error)
    } finally {
      this.#reading = false
    }
  }

  override _write(frame: Written, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send([frame], done)
  }

  override _writev(chunks: { chunk: Written }[], done: (error?: Error | null) => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    )
  }

  #send(frames: Written[], done: (error?: Error | null) => void): void {
    this.#port.send(frames, { signal: this.#stopping.signal }).then(() => done(), done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#port.drained({ signal: this.#stopping.signal }).then(() => done(), done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stopping.abort()
    this.#reader.return().then(() => done(error), done)
  }
}
