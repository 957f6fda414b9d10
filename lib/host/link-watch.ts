// News of links, as the kernel multicasts them.

import { RTM, RTMGRP } from '../abi/rtnetlink.ts'
import { FdHandle, type NativeFd } from '../binding/index.ts'
import { VhostNetError } from '../errors.ts'
import { type Watch, type WatchOptions, watchReadable } from '../event/index.ts'
import type { NetlinkMessage } from './netlink-message.ts'
import { decodeLink, type Link } from './rtnetlink-link.ts'
import { bufferBytes, openSocket, receive } from './rtnetlink-socket.ts'

/** What happened to links. */
export type LinkEvent =
  /** A link was made, or something about it changed: it is now so. */
  | { type: 'new'; link: Link }
  /** A link was deleted, or left this network namespace: it was last so. */
  | { type: 'del'; link: Link }
  /** Events were lost, because they came faster than they were read or were unreadable: list the links again. */
  | { type: 'overrun'; error: VhostNetError }

/** A running watch of links; close it to stop. */
export class LinkWatch extends FdHandle {
  readonly #buffer = new Uint8Array(bufferBytes)
  readonly #callback: (event: LinkEvent) => void
  /** Read but not reported yet: empty, unless the callback threw or closed the watch. */
  readonly #pending: LinkEvent[] = []
  #watch: Watch | undefined

  private constructor(native: NativeFd, label: string, callback: (event: LinkEvent) => void) {
    super(native, label)
    this.#callback = callback
  }

  /**
   * Reports every change of a link in this network namespace, from now until it is closed, in order: RTMGRP_LINK. Open
   * it before listing the links, and nothing is missed. Whatever goes wrong later is reported as an `'overrun'` event.
   * The callback should not throw: that would be an uncaught exception, and delay the events behind it.
   * @throws {SystemCallError} `EAFNOSUPPORT`, `EMFILE`, `ENFILE`
   */
  static open(callback: (event: LinkEvent) => void, options?: WatchOptions): LinkWatch {
    const label = 'rtnetlink link events'
    const opened = new LinkWatch(openSocket(RTMGRP.RTMGRP_LINK, label), label, callback)
    try {
      opened.#watch = watchReadable(opened, () => opened.#read(), options)
    } catch (error) {
      opened.close()
      throw error
    }
    return opened
  }

  override close(): void {
    this.#stop()
    super.close()
  }

  override detach(): number {
    this.#stop()
    return super.detach()
  }

  #stop(): void {
    this.#watch?.stop()
    this.#watch = undefined
  }

  #read(): void {
    this.#drain()
    // The callback may close the watch.
    while (!this.closed) {
      const event = this.#pending.shift()
      if (event === undefined) return
      this.#callback(event)
    }
  }

  /**
   * Takes in all that is queued, and only then notes that something was lost. Until the queue is empty the kernel drops
   * further messages without saying so again (netlink_overrun, netlink_rcv_wake: NETLINK_S_CONGESTED), so the consumer
   * has to list the links after that.
   */
  #drain(): void {
    let lost: VhostNetError | undefined
    for (;;) {
      try {
        const messages = receive(this, this.#buffer)
        if (messages === undefined) break
        this.#pending.push(...messages.flatMap(toEvent))
      } catch (error) {
        // An error of this socket always means lost messages: the kernel could not queue one or not build one
        // (rtnl_set_sk_err). Reading it clears it, so this ends.
        if (!(error instanceof VhostNetError)) throw error
        lost = error
      }
    }
    if (lost !== undefined) this.#pending.push({ type: 'overrun', error: lost })
  }
}

function toEvent(message: NetlinkMessage): LinkEvent[] {
  if (message.type !== RTM.RTM_NEWLINK && message.type !== RTM.RTM_DELLINK) return []
  const link = decodeLink(message)
  if (link === undefined) return []
  return [{ type: message.type === RTM.RTM_NEWLINK ? 'new' : 'del', link }]
}
