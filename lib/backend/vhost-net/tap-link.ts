// Whether a tap is switched on, as its network namespace tells.

import { fstatSync, statSync } from 'node:fs'
import { SystemCallError } from '../../errors.ts'
import { type LinkEvent, LinkWatch } from '../../host/rtnetlink.ts'
import type { Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'
import { findLink } from './existing-tap.ts'

/** Says whether a tap is switched on, one tap after the other. */
export class TapLink {
  readonly #changed: (up: boolean) => void
  #watch: LinkWatch | undefined
  #index = 0
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
    // Nobody hears whether a tap in another network namespace is switched on: it counts as if it were.
    const watch = namespaceOf(tap) === ownNamespace() ? undo.own(this.#open()) : undefined
    const link = watch && findLink({ ifname: tap.getIff().name })
    return () => {
      const before = this.#watch
      this.#watch = watch
      this.#index = link?.index ?? 0
      this.#tell(watch === undefined || link?.up === true)
      before?.close()
    }
  }

  #open(): LinkWatch {
    const watch: LinkWatch = LinkWatch.open((event: LinkEvent) => {
      if (watch !== this.#watch) return
      if (event.type === 'overrun') this.#tell(findLink({ index: this.#index })?.up === true)
      else if (event.link.index === this.#index) this.#tell(event.type === 'new' && event.link.up)
    })
    return watch
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

/** The network namespace of this process, by its inode's number. */
export const ownNamespace = (): number => statSync('/proc/self/ns/net').ino

/** That of a tap; undefined where nobody may ask. @throws {SystemCallError} `EBADFD` */
export function namespaceOf(tap: Tap): number | undefined {
  try {
    const namespace = tap.getDevNetNs()
    try {
      return fstatSync(namespace.fd).ino
    } finally {
      namespace.close()
    }
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EPERM') return undefined
    throw error
  }
}
