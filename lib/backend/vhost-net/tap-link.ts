// Whether a tap is switched on, as its network namespace tells.

import { fstatSync, statSync } from 'node:fs'
import { SystemCallError } from '../../errors.ts'
import { type LinkEvent, LinkWatch } from '../../host/rtnetlink.ts'
import type { Tap } from '../../host/tap.ts'
import { findLink } from './existing-tap.ts'

/**
 * Says whether the tap is up, IFF_UP, now and whenever that changes, until the watch is closed. Its carrier tells no more:
 * it has one while any of its queues is attached, and those are ours. Undefined where the tap is not in this process's
 * network namespace, or nobody may ask.
 * @throws {SystemCallError} `EMFILE`, `EAFNOSUPPORT`
 */
export function watchTapLink(tap: Tap, changed: (up: boolean) => void): LinkWatch | undefined {
  if (!isInOwnNamespace(tap)) return undefined
  let known: boolean | undefined
  let index = 0
  const tell = (up: boolean): void => {
    if (up === known) return
    known = up
    changed(up)
  }
  const take = (event: LinkEvent): void => {
    if (event.type === 'overrun') tell(findLink({ index })?.up === true)
    else if (event.link.index === index) tell(event.type === 'new' && event.link.up)
  }
  const watch = LinkWatch.open(take)
  try {
    const link = findLink({ ifname: tap.getIff().name })
    index = link?.index ?? 0
    tell(link?.up === true)
    return watch
  } catch (error) {
    watch.close()
    throw error
  }
}

function isInOwnNamespace(tap: Tap): boolean {
  try {
    const namespace = tap.getDevNetNs()
    try {
      return fstatSync(namespace.fd).ino === statSync('/proc/self/ns/net').ino
    } finally {
      namespace.close()
    }
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EPERM') return false
    throw error
  }
}
