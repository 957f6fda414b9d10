// A Linux bridge that nothing else is on, between the taps of one test: what goes in at one comes out at another.

import { EventEmitter, once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { RtNetlink } from '../../lib/host/rtnetlink.ts'

/** What the host's own stack would send on a link by itself. */
export function disableIpv6(ifname: string): void {
  // A kernel without IPv6 sends none.
  if (existsSync('/proc/sys/net/ipv6')) writeFileSync(`/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`, '1')
}

/** One of its own: else it has the lowest one of its ports', and another when that one goes. */
const MAC = '02:00:00:00:00:b0'
let bridges = 0

export class Bridge {
  readonly ifname = `vnb${process.pid % 2 ** 22}x${bridges++}`
  readonly #netlink: RtNetlink
  readonly index: number

  constructor(netlink: RtNetlink) {
    this.#netlink = netlink
    this.index = netlink.addLink({ kind: 'bridge', ifname: this.ifname, mac: MAC }).index
    disableIpv6(this.ifname)
    // Snooping would send IGMP reports.
    writeFileSync(`/sys/class/net/${this.ifname}/bridge/multicast_snooping`, '0')
    netlink.setLink(this.index, { up: true })
  }

  /** Resolves when frames pass between them. */
  async plugIn(...taps: readonly string[]): Promise<void> {
    const forwards = (): boolean =>
      taps.every((tap) => readFileSync(`/sys/class/net/${tap}/brport/state`, 'utf8').trim() === '3')
    const changes = new EventEmitter()
    const watch = this.#netlink.watchLinks(() => changes.emit('change'), { keepAlive: true })
    try {
      for (const tap of taps) {
        disableIpv6(tap)
        const { index } = this.#netlink.getLink({ ifname: tap })!
        this.#netlink.setLink(index, { master: this.index })
        this.#netlink.setLink(index, { up: true })
      }
      const signal = AbortSignal.timeout(5000)
      while (!forwards()) await once(changes, 'change', { signal })
    } finally {
      watch.close()
    }
  }

  close(): void {
    this.#netlink.deleteLink(this.index)
  }
}
