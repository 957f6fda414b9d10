// Whether the tap that a backend has is switched on, one tap after the other.

import type { Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'
import { TapWatch } from './tap-watch.ts'

export class TapLink {
  readonly #changed: (up: boolean) => void
  #watch: TapWatch | undefined
  #known: boolean | undefined

  /** @throws {SystemCallError} `EMFILE`, `EAFNOSUPPORT` */
  constructor(tap: Tap, changed: (up: boolean) => void) {
    this.#changed = changed
    const undo = new Teardown()
    try {
      this.follow(tap, undo)()
    } catch (error) {
      throw undo.unwind(error)
    }
  }

  /**
   * Begins to look at another tap; `undo` is given what ends that. What is returned says how that one is, and looks no
   * more at the one before.
   * @throws {SystemCallError} `EMFILE`, `EAFNOSUPPORT`
   */
  follow(tap: Tap, undo: Teardown): () => void {
    const watch = TapWatch.open(tap, (up) => {
      if (watch === this.#watch) this.#tell(up)
    })
    if (watch !== undefined) undo.own(watch)
    return () => {
      const before = this.#watch
      this.#watch = watch
      this.#tell(watch?.up ?? true)
      before?.close()
    }
  }

  #tell(up: boolean): void {
    if (up === this.#known) return
    this.#known = up
    this.#changed(up)
  }

  /** Idempotent. */
  close(): void {
    this.#watch?.close()
    this.#watch = undefined
  }
}
