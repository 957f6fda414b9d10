// Everything that `vhost-net loop` brings up: memory, the device with vhost-net and tap, its registers, the driver behind
// them, the tap's address; and its undoing.

import { VIRTIO_NET_HDR_SIZE } from '../../abi/virtio-net.ts'
import { formatIp } from '../../address.ts'
import type { PairBases, RingFault, RingName } from '../../backend/index.ts'
import { GuestNic, LocalEvents, MmioDevice } from '../../driver/index.ts'
import { InvalidOptionError, StateError } from '../../errors.ts'
import { type Link, type LinkStats, RtNetlink } from '../../host/index.ts'
import { GuestMemory } from '../../memory/index.ts'
import { VirtioNet } from '../../nic.ts'
import { Teardown } from '../../teardown.ts'
import { VirtioMmioTransport } from '../../transport/index.ts'
import { Endpoint } from './endpoint.ts'
import { frameRoom } from './frames.ts'
import { addressesInUse } from './in-use.ts'
import type { LoopOptions } from './options.ts'
import { addressesBeside, type Cidr, chooseSubnet, formatCidr, ipv4ToBytes, overlap } from './subnet.ts'

/** Guest-physical address of the device's registers: any beyond memory. */
const REGISTERS = 2 ** 40

// One buffer holds any frame under the MTU; 2048 is what guests use for 1500.
function bufferSizeFor(mtu: number): number {
  return Math.max(2048, VIRTIO_NET_HDR_SIZE + frameRoom(mtu))
}

/** 02:…: locally administered, so nobody's hardware has it; 'vnt' and the pair's number. */
function macOf(pair: number): Uint8Array {
  return Uint8Array.of(0x02, 0x76, 0x6e, 0x74, pair >>> 8, pair)
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

/** The far end of the loop and what it hangs on. */
interface Parts {
  readonly netlink: RtNetlink
  readonly nic: VirtioNet
  readonly events: LocalEvents
  readonly guest: GuestNic
}

/** A device behind registers, and a driver that has initialised it through those, with all its pairs in use. */
async function openNic(
  { pairs: queuePairs, ifname, mtu }: LoopOptions,
  closing: Teardown,
): Promise<Omit<Parts, 'netlink'>> {
  const layout = { queuePairs, bufferSize: bufferSizeFor(mtu) }
  const memory = closing.own(GuestMemory.allocate({ size: GuestNic.memoryNeeded(layout) }))
  const nic = closing.own(await VirtioNet.open({ memory, queuePairs, host_mtu: mtu, backend: { tap: { ifname } } }))
  const events = new LocalEvents()
  const bus = { events, address: REGISTERS }
  const registers = closing.own(
    new VirtioMmioTransport(nic, { interrupts: events, doorbells: events, address: REGISTERS }),
  )
  const device = MmioDevice.probe(registers, bus)
  if (device === undefined) throw new Error('the device is not behind its registers')
  const guest = await GuestNic.start(device, { memory, ...layout })
  events.handler = () => guest.handleInterrupt()
  return { nic, events, guest }
}

/** The running loop: its parts, and the state of its tap. */
export class Rig {
  readonly endpoints: readonly Endpoint[]
  /** Names of the feature bits that device and driver agreed on. */
  readonly features: readonly string[]
  readonly ifname: string
  readonly linkIndex: number
  readonly address: Cidr
  readonly faults: RingFault[] = []
  /** The tap's counters before any frame moved: a tap that was there before has some. */
  readonly statsBefore: LinkStats
  readonly #parts: Parts
  readonly #closing: Teardown

  private constructor(parts: Parts, link: Link, address: Cidr, closing: Teardown) {
    const { nic, guest } = parts
    this.#parts = parts
    this.features = nic.inspect().features.accepted
    this.ifname = link.ifname
    this.linkIndex = link.index
    this.statsBefore = link.stats
    this.address = address
    this.#closing = closing
    const addresses = addressesBeside(address, guest.pairs.length)
    this.endpoints = guest.pairs.map(
      (pair, index) => new Endpoint(index, macOf(index), addresses[index] as number, pair),
    )
    nic.backend.on('fault', (fault) => this.faults.push(fault))
  }

  /** Brings everything up; on failure nothing is left of it. */
  static async open(options: LoopOptions): Promise<Rig> {
    const closing = new Teardown()
    let guest: GuestNic | undefined
    try {
      const netlink = closing.own(RtNetlink.open())
      const address = chooseAddress(netlink, options)
      const parts = { netlink, ...(await openNic(options, closing)) }
      guest = parts.guest
      if (options.pairs > 1) await guest.setQueuePairs(options.pairs)
      const { ifname } = parts.nic.backend
      const link = netlink.getLink({ ifname })
      if (link === undefined) throw new StateError('ERR_CLOSED', `${ifname} was deleted as soon as it was made`)
      const rig = new Rig(parts, link, address, closing)
      rig.#configureLink(link, options.mtu)
      return rig
    } catch (error) {
      await guest?.close()
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

  /**
   * Pulls the cable: neither rings nor the tap's counters move after it.
   * @returns vhost's own ring positions.
   */
  stop(): PairBases[] {
    const { nic } = this.#parts
    nic.setLink(false)
    return nic.backend.inspect().pairs.map(({ bases }) => bases as PairBases)
  }

  /** How often vhost has called for one of a pair's rings. */
  calls(pair: number): Record<RingName, number> {
    const { nic, events } = this.#parts
    const [rx, tx] = nic.queues.slice(2 * pair, 2 * pair + 2).map(({ call }) => events.signals(call))
    return { rx: rx as number, tx: tx as number }
  }

  /** Unwinds everything, in reverse order. */
  async close(): Promise<void> {
    try {
      await this.#parts.guest.close()
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
