// A NIC of this process on the host's own network stack: the tap has an address, and so has the driver.

import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Driver, FramePort } from '../../lib/driver/index.ts'
import { type LinkStats, RtNetlink } from '../../lib/host/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import type { Packet } from './packets.ts'

export const HOST = '10.88.0.1'
export const GUEST = '10.88.0.2'
const GUEST_MAC = '02:00:00:00:88:02'

/** VERSION_1, EVENT_IDX, INDIRECT_DESC, MRG_RXBUF. */
const RING_FEATURES = [32, 29, 28, 15]

export class HostNic {
  readonly port: FramePort
  readonly driver: Driver
  /** Of a packet from the driver to the host. */
  readonly addresses: Pick<Packet, 'destinationMac' | 'sourceMac' | 'source' | 'destination'>
  readonly #ifname: string
  readonly #netlink: RtNetlink
  readonly #closing: Teardown

  private constructor(driver: Driver, ifname: string, netlink: RtNetlink, closing: Teardown) {
    this.driver = driver
    this.port = new FramePort(driver)
    this.#ifname = ifname
    this.#netlink = netlink
    this.#closing = closing
    const destinationMac = netlink.getLink({ ifname })!.mac!
    this.addresses = { destinationMac, sourceMac: GUEST_MAC, source: GUEST, destination: HOST }
  }

  /** @param offloads numbers of the feature bits besides those of rings. */
  static async open(...offloads: readonly number[]): Promise<HostNic> {
    const features = [...RING_FEATURES, ...offloads].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n)
    const closing = new Teardown()
    try {
      const memory = closing.own(GuestMemory.allocate({ size: Driver.memoryNeeded({ features }) }))
      const backend = closing.own(await VhostNetBackend.open({ memory, tap: { ifname: 'vnh%d' } }))
      const driver = Driver.create({ memory, features })
      closing.add(() => driver.destroy())
      const { rx, tx } = driver.pairs[0]!
      backend.start(0, { features, rx: rx.vring, tx: tx.vring })
      const netlink = closing.own(RtNetlink.open())
      const { ifname } = backend
      const ipv6 = `/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`
      if (existsSync(ipv6)) writeFileSync(ipv6, '1')
      const { index } = netlink.getLink({ ifname })!
      netlink.addAddress(index, { address: HOST, prefixLength: 24 })
      netlink.setLink(index, { up: true })
      netlink.addNeighbour(index, { address: GUEST, mac: GUEST_MAC })
      return new HostNic(driver, ifname, netlink, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  /** Counters of the tap: what the driver sends is received there. */
  get stats(): LinkStats {
    return this.#netlink.getLink({ ifname: this.#ifname })!.stats
  }

  [Symbol.dispose](): void {
    this.port.close()
    this.#closing.run()
  }
}

/** UDP datagrams that the host's stack dropped for their checksum. */
export function udpChecksumErrors(): number {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8')
    .match(/^Udp: .*$/gm)!
    .map((line) => line.split(' '))
  const column = names!.indexOf('InCsumErrors')
  assert.ok(column > 0)
  return Number(values![column])
}
