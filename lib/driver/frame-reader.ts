// Received frames as an async iterator.

import { Breather } from './breather.ts'
import type { ReceivedFrame } from './frame.ts'

type Result = IteratorResult<ReceivedFrame, undefined>

const END: Result = { done: true, value: undefined }

/** Where a reader gets its frames from. */
export interface FrameSource {
  /** The next frame, if there is one. */
  receive(): ReceivedFrame | undefined
  /** Resolves when it is worth while to look again. */
  readable(signal: AbortSignal): Promise<void>
  /** Aborted when there will be no more. */
  readonly closing: AbortSignal
}

/**
 * Takes one frame from the ring for each `next()` and none ahead, so that however it ends nothing is lost: by `break` or
 * `return()`, also while a `next()` waits; by its signal, whose reason is thrown once; when the port is closed. Several
 * readers of one port share the frames: each goes to one of them.
 */
export class FrameReader implements AsyncIterableIterator<ReceivedFrame, undefined> {
  readonly #source: FrameSource
  readonly #breather = new Breather()
  readonly #returned = new AbortController()
  readonly #signal: AbortSignal
  #failed = false

  constructor(source: FrameSource, signal?: AbortSignal) {
    this.#source = source
    this.#signal = AbortSignal.any([source.closing, this.#returned.signal, ...(signal ? [signal] : [])])
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** @throws {StateError} `ERR_CLOSED` where the driver was closed under the port */
  async next(): Promise<Result> {
    try {
      while (!this.#ended) {
        this.#signal.throwIfAborted()
        const frame = this.#source.receive()
        if (frame !== undefined) {
          await this.#breather.breathe()
          return { done: false, value: frame }
        }
        await this.#source.readable(this.#signal)
      }
    } catch (error) {
      // What ended while this waited.
      if (this.#ended) return END
      this.#failed = true
      throw error
    }
    return END
  }

  return(): Promise<Result> {
    this.#returned.abort()
    return Promise.resolve(END)
  }

  get #ended(): boolean {
    return this.#failed || this.#returned.signal.aborted || this.#source.closing.aborted
  }
}
