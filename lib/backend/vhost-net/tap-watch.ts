// Whether one tap is switched on, as its network namespace tells, whatever its name becomes and wherever it is moved.

import { fstatSync, statSync } from 'node:fs'
import { SystemCallError } from '../../errors.ts'
import { macvtapRdev } from '../../host/macvtap.ts'
import { type Link, type LinkEvent, LinkWatch, RtNetlink } from '../../host/rtnetlink.ts'
import type { Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'
import { findLink } from './existing-tap.ts'
import { nameOf } from './tap-queue.ts'

/**
 * IFF_UP; its carrier tells no more: it has one while any of its queues is attached, and those are ours. Of a tap that leaves
 * this process's network namespace nothing can be heard: it counts as switched on until it is back.
 */
export class TapWatch {
  readonly #tap: Tap
  readonly #netlink: RtNetlink
  readonly #changed: (up: boolean) => void
  readonly #opened = new Teardown()
  /** In this namespace, by which it is known whatever its name is; undefined while it is not there. */
  #index: number | undefined
  #up = false

  private constructor(tap: Tap, changed: (up: boolean) => void) {
    this.#tap = tap
    this.#changed = changed
    try {
      // Kept: what was lost is asked for later, when there may be no file left to open.
      this.#netlink = this.#opened.own(RtNetlink.open())
      this.#opened.own(LinkWatch.open((event) => this.#take(event)))
      this.#see(this.#named(() => true))
    } catch (error) {
      throw this.#opened.unwind(error)
    }
  }

  /**
   * Undefined where the tap is in another network namespace, or nobody may ask in which.
   * @param changed called for news, not for what `up` is to begin with
   * @throws {SystemCallError} `EMFILE`, `EAFNOSUPPORT`
   */
  static open(tap: Tap, changed: (up: boolean) => void): TapWatch | undefined {
    return isInOwnNamespace(tap) ? new TapWatch(tap, changed) : undefined
  }

  get up(): boolean {
    return this.#up
  }

  #take(event: LinkEvent): void {
    const before = this.#up
    if (event.type === 'overrun') this.#see(this.#named((link) => link.index === this.#index || this.#isOurs(link)))
    else if (event.link.index === this.#index) this.#see(event.type === 'new' ? event.link : undefined)
    else if (this.#index === undefined && event.type === 'new' && this.#isOurs(event.link)) this.#see(event.link)
    if (this.#up !== before) this.#changed(this.#up)
  }

  /** The link that has its name, if that is what it is. */
  #named(matches: (link: Link) => boolean): Link | undefined {
    const ifname = nameOf(this.#tap)
    const link = ifname === undefined ? undefined : this.#netlink.getLink({ ifname })
    return link !== undefined && matches(link) ? link : undefined
  }

  /** @param link undefined where it is in this namespace no more: it was deleted, or moved to another. */
  #see(link: Link | undefined): void {
    this.#index = link?.index
    this.#up = link?.up ?? nameOf(this.#tap) !== undefined
  }

  /** A tap that has its name may be another one, where this one is in another namespace. */
  #isOurs({ ifname, kind }: Link): boolean {
    try {
      return (
        kind === (this.#tap.macvtap ? 'macvtap' : 'tun') && nameOf(this.#tap) === ifname && isInOwnNamespace(this.#tap)
      )
    } catch (error) {
      // It takes a file to find out: without one, it is not found until its next news.
      if (error instanceof SystemCallError && (error.code === 'EMFILE' || error.code === 'ENFILE')) return false
      throw error
    }
  }

  /** Idempotent. */
  close(): void {
    this.#opened.run()
  }
}

const isInOwnNamespace = (tap: Tap): boolean => namespaceOf(tap) === ownNamespace()

/** The network namespace of this process, by its inode's number. */
export const ownNamespace = (): number => statSync('/proc/self/ns/net').ino

/** Whether the macvtap of that name in this network namespace is the one that a queue is of: it has the queue's node. */
function isHere(tap: Tap): boolean {
  const link = findLink({ ifname: tap.getIff().name })
  return link?.kind === 'macvtap' && macvtapRdev(link) === fstatSync(tap.fd).rdev
}

/**
 * That of a tap; undefined where nobody may ask, and of a macvtap that is in another one than this process.
 * @throws {SystemCallError} `EBADFD`, `ENOLINK`
 */
export function namespaceOf(tap: Tap): number | undefined {
  if (tap.macvtap) return isHere(tap) ? ownNamespace() : undefined
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
