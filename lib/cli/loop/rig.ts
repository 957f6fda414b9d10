// Everything that `vhost-net loop` brings up: memory, tap, vhost-net, driver, the tap's address; and its undoing.

import { VIRTIO_F } from '../../abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE } from '../../abi/virtio-net.ts'
import { formatIp, parseIp } from '../../address.ts'
import { type PairBases, type RingFault, VhostNetBackend } from '../../backend/index.ts'
import { Driver, type DriverOptions } from '../../driver/index.ts'
import { InvalidOptionError, StateError } from '../../errors.ts'
import { type Link, type LinkStats, RtNetlink } from '../../host/index.ts'
import { GuestMemory } from '../../memory/index.ts'
import { Teardown } from '../../teardown.ts'
import { featureSet } from '../../virtio/index.ts'
import { Endpoint } from './endpoint.ts'
import { frameRoom } from './frames.ts'
import type { LoopOptions } from './options.ts'
import { addressesBeside, type Cidr, chooseSubnet, formatCidr, ipv4FromBytes, ipv4ToBytes, overlap } from './subnet.ts'

/** The feature bits the driver agrees on, by name. */
export const FEATURES = {
  VIRTIO_NET_F_MRG_RXBUF: VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_RING_F_INDIRECT_DESC: VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX: VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F_VERSION_1: VIRTIO_F.VIRTIO_F_VERSION_1,
} as const

const features = featureSet(...Object.values(FEATURES))

// One buffer holds any frame under the MTU; 2048 is what guests use for 1500.
function bufferSizeFor(mtu: number): number {
  return Math.max(2048, VIRTIO_NET_HDR_SIZE + frameRoom(mtu))
}

/** 02:…: locally administered, so nobody's hardware has it; 'vnt' and the pair's number. */
function macOf(pair: number): Uint8Array {
  return Uint8Array.of(0x02, 0x76, 0x6e, 0x74, pair >>> 8, pair)
}

function addressesInUse(netlink: RtNetlink): { ifname: string; cidr: Cidr }[] {
  return netlink.listLinks().flatMap(({ index, ifname }) =>
    netlink
      .listAddresses(index)
      .filter(({ family }) => family === 'ipv4')
      .map(({ address, prefixLength }) => {
        return { ifname, cidr: { address: ipv4FromBytes(parseIp(address, 'address')), prefixLength } }
      }),
  )
}

function chooseAddress(netlink: RtNetlink, { address, pairs }: LoopOptions): Cidr {
  const inUse = addressesInUse(netlink)
  if (address === undefined) {
    const chosen = chooseSubnet(
      pairs,
      inUse.map(({ cidr }) => cidr),
    )
    if (chosen !== undefined) return chosen
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', '--address', 'this host uses every private network', {
      hint: 'Name a network that may be used: --address 203.0.113.1/24.',
    })
  }
  const taken = inUse.find(({ cidr }) => overlap(address, cidr))
  if (taken === undefined) return address
  const problem = `${formatCidr(address)} overlaps with ${formatCidr(taken.cidr)} of ${taken.ifname}`
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', '--address', problem, {
    hint: 'Choose another network, or leave the choice to the command.',
  })
}

/** The running loop: its parts, and the state of its tap. */
export class Rig {
  readonly endpoints: readonly Endpoint[]
  readonly ifname: string
  readonly linkIndex: number
  readonly address: Cidr
  readonly faults: RingFault[] = []
  /** The tap's counters before any frame moved: a tap that was there before has some. */
  readonly statsBefore: LinkStats
  readonly #parts: { netlink: RtNetlink; backend: VhostNetBackend; driver: Driver }
  readonly #closing: Teardown

  private constructor(
    parts: { netlink: RtNetlink; backend: VhostNetBackend; driver: Driver },
    link: Link,
    address: Cidr,
    closing: Teardown,
  ) {
    this.#parts = parts
    this.ifname = link.ifname
    this.linkIndex = link.index
    this.statsBefore = link.stats
    this.address = address
    this.#closing = closing
    const addresses = addressesBeside(address, parts.driver.pairs.length)
    this.endpoints = parts.driver.pairs.map(
      (pair, index) => new Endpoint(index, macOf(index), addresses[index] as number, pair),
    )
    parts.backend.on('fault', (fault) => this.faults.push(fault))
  }

  /** Brings everything up; on failure nothing is left of it. */
  static async open(options: LoopOptions): Promise<Rig> {
    const closing = new Teardown()
    try {
      const netlink = closing.own(RtNetlink.open())
      const address = chooseAddress(netlink, options)
      const { pairs: queuePairs, ifname, mtu } = options
      const layout: Omit<DriverOptions, 'memory'> = { features, queuePairs, bufferSize: bufferSizeFor(mtu) }
      const memory = closing.own(GuestMemory.allocate({ size: Driver.memoryNeeded(layout) }))
      const backend = closing.own(await VhostNetBackend.open({ memory, queuePairs, tap: { ifname } }))
      const driver = Driver.create({ memory, ...layout })
      closing.add(() => driver.destroy())
      const link = netlink.getLink({ ifname: backend.ifname })
      if (link === undefined) throw new StateError('ERR_CLOSED', `${backend.ifname} was deleted as soon as it was made`)
      const rig = new Rig({ netlink, backend, driver }, link, address, closing)
      for (const [index, { rx, tx }] of driver.pairs.entries()) {
        backend.start(index, { features, rx: rx.vring, tx: tx.vring })
      }
      rig.#configureLink(link, mtu)
      return rig
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  get hostAddress(): string {
    return formatIp(ipv4ToBytes(this.address.address))
  }

  /** The tap as the kernel describes it at this moment. @throws {StateError} where somebody deleted it */
  link(): Link {
    const link = this.#parts.netlink.getLink({ index: this.linkIndex })
    if (link === undefined) throw new StateError('ERR_CLOSED', `somebody deleted ${this.ifname}`)
    return link
  }

  linkDown(): void {
    this.#parts.netlink.setLink(this.linkIndex, { up: false })
  }

  /** Stops all pairs; neither rings nor the tap's counters move after it. @returns vhost's own ring positions. */
  stop(): PairBases[] {
    return this.endpoints.map(({ index }) => this.#parts.backend.stop(index))
  }

  /** Unwinds everything, in reverse order. */
  async close(): Promise<void> {
    const { backend, driver } = this.#parts
    try {
      // What a stopped device still had is abandoned: nobody will return it.
      if (this.endpoints.every(({ index }) => backend.running(index))) await driver.close()
    } finally {
      this.#closing.run()
    }
  }

  // A tap that was there before gets back what is changed here; ours goes with its last queue.
  #configureLink({ mtu, up }: Link, wanted: number): void {
    const { netlink } = this.#parts
    const index = this.linkIndex
    const restore = (step: () => void) =>
      this.#closing.add(() => {
        if (netlink.getLink({ index }) !== undefined) step()
      })
    const key = { address: this.hostAddress, prefixLength: this.address.prefixLength }
    netlink.setLink(index, { mtu: wanted })
    restore(() => netlink.setLink(index, { mtu }))
    netlink.addAddress(index, key)
    restore(() => netlink.deleteAddress(index, key))
    netlink.setLink(index, { up: true })
    restore(() => netlink.setLink(index, { up }))
  }
}
