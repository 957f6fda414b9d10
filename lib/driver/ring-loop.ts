// A native thread that keeps a ring in motion, as a promise.

import { binding, type NativeRing } from '../binding/index.ts'
import { EventFd, watchReadable } from '../event/index.ts'
import { Teardown } from '../teardown.ts'
import { ringError } from './ring-error.ts'

export interface RingLoopOptions {
  ring: NativeRing
  call: EventFd
  /** For messages. */
  name: string
  frames: number
  batch: number
  /** Chains that must be used, less one, before the device is to call. */
  delay: number
}

/** Runs until its frames went through, or until it is stopped; no packet enters JavaScript meanwhile. */
export class RingLoop {
  /** Resolves when it has ended by itself; rejects with the ring's fault, or with what `stop` was given. */
  readonly ended: Promise<void>
  readonly #finish: (reason?: unknown) => void

  constructor({ ring, call, name, frames, batch, delay }: RingLoopOptions) {
    const opened = new Teardown()
    const { promise, resolve, reject } = withResolvers()
    this.ended = promise
    this.#finish = (reason) => {
      try {
        opened.run()
        if (reason === undefined) resolve()
        else reject(reason)
      } catch (error) {
        reject(ringError(name, error))
      }
    }
    try {
      const done = opened.own(EventFd.create(`${name} loop`))
      const config = { call: call.native, done: done.native, frames, batch, delay }
      binding().ringStartLoop(ring, config)
      opened.add(() => binding().ringFinishLoop(ring))
      const watch = watchReadable(done, () => this.#finish(), { keepAlive: true })
      opened.add(() => watch.stop())
    } catch (error) {
      throw opened.unwind(ringError(name, error))
    }
  }

  /** Ends it now; `ended` rejects with the reason. */
  stop(reason: unknown): void {
    this.#finish(reason)
  }
}

// Promise.withResolvers, which Node.js has from 22 on.
function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void } {
  let resolve: () => void = () => undefined
  let reject: (reason: unknown) => void = () => undefined
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
