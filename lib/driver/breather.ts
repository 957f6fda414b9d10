// Lets other work of this thread go between, where a device is so fast that nobody ever waits for it.

import { setImmediate } from 'node:timers/promises'

/** Promises that resolve at once go before all timers and all I/O: so many of them in a row are enough. */
const AT_ONCE = 64

/** Counts what was done without waiting. */
export class Breather {
  #left = AT_ONCE

  /** To be called after each operation; resolves at once, or, every 64th time, when the event loop has gone round. */
  async breathe(): Promise<void> {
    if (--this.#left > 0) return
    this.#left = AT_ONCE
    await setImmediate()
  }
}
