// What works on one NIC's driver in a soak, until that goes.

import { setMaxListeners } from 'node:events'

export class SoakSession {
  readonly #over = new AbortController()
  readonly #tasks = new Set<Promise<void>>()
  readonly #failed: (error: unknown) => void

  /** @param failed told of whatever ends a task but the end of the session */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
    // Everybody who waits listens to it.
    setMaxListeners(0, this.signal)
  }

  get signal(): AbortSignal {
    return this.#over.signal
  }

  /** Resolves when the task has ended in any way. */
  async keep(task: Promise<void>): Promise<void> {
    const kept = task.catch((error: unknown) => {
      if (!this.signal.aborted) this.#failed(error)
    })
    this.#tasks.add(kept)
    await kept
    this.#tasks.delete(kept)
  }

  /** Tells all tasks. */
  abort(): void {
    this.#over.abort()
  }

  /** Ends all tasks. */
  async end(): Promise<void> {
    this.abort()
    await Promise.all(this.#tasks)
  }
}
