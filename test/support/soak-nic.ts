// One end of a soak: a virtio-net device on vhost-net behind virtio-pci, and its driver in this process, all pairs in use.

import type { PairBases } from '../../lib/backend/index.ts'
import {
  type DriverPair,
  GuestNic,
  LocalEvents,
  LocalMemorySpace,
  PciDevice,
  placeBars,
} from '../../lib/driver/index.ts'
import type { LinkStats, RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { PciBus } from '../../lib/pci/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioPciTransport } from '../../lib/transport/index.ts'

export const QUEUE_SIZE = 512
const BARS_FROM = 0xd000_0000

interface Parts {
  nic: VirtioNet
  memory: NativeMemory
  /** A driver comes. */
  drive: () => Promise<GuestNic>
  events: LocalEvents
  netlink: RtNetlink
}

export class SoakNic {
  readonly nic: VirtioNet
  readonly memory: NativeMemory
  /** Of its tap. */
  readonly index: number
  /** What the device or a driver complained of. */
  readonly faults: string[] = []
  readonly #parts: Parts
  readonly #closing: Teardown
  #guest: GuestNic | undefined

  private constructor(parts: Parts, closing: Teardown) {
    const { nic, memory, netlink, events } = parts
    this.nic = nic
    this.memory = memory
    this.index = netlink.getLink({ ifname: nic.backend.ifname })!.index
    this.#parts = parts
    this.#closing = closing
    nic.on('fault', ({ cause, message }) => this.faults.push(`${cause}: ${message}`))
    events.handler = (vector) => this.#guest?.handleInterrupt(vector)
  }

  static async open(queuePairs: number, netlink: RtNetlink): Promise<SoakNic> {
    const closing = new Teardown()
    try {
      const layout = { queuePairs, queueSize: QUEUE_SIZE }
      const memory = closing.own(GuestMemory.allocate({ size: GuestNic.memoryNeeded(layout) }))
      const nic = closing.own(
        await VirtioNet.open({
          memory,
          queuePairs,
          rx_queue_size: QUEUE_SIZE,
          tx_queue_size: QUEUE_SIZE,
          backend: { tap: { ifname: 'soak%d' } },
        }),
      )
      const events = new LocalEvents()
      const transport = closing.own(new VirtioPciTransport(nic, { interrupts: events, doorbells: events }))
      const space = new LocalMemorySpace()
      new PciBus(space).plug(1, transport.function)
      placeBars(transport.function, BARS_FROM)
      const drive = (): Promise<GuestNic> =>
        GuestNic.start(PciDevice.probe(transport.function, { memory: space, events })!, { memory, ...layout })
      return new SoakNic({ nic, memory, drive, events, netlink }, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  /** A driver comes, or comes again, and uses all pairs. */
  async up(): Promise<void> {
    await this.down()
    const guest = await this.#parts.drive()
    this.#guest = guest
    guest.on('fault', (error) => this.faults.push(String(error)))
    const { queuePairs } = this.nic
    if (queuePairs > 1) await guest.setQueuePairs(queuePairs)
  }

  /** The driver resets the device, and goes. */
  async down(): Promise<void> {
    const guest = this.#guest
    this.#guest = undefined
    await guest?.close()
  }

  get pairs(): readonly DriverPair[] {
    return this.#guest!.pairs
  }

  get ifname(): string {
    return this.nic.backend.ifname
  }

  tapStats(): LinkStats {
    return this.#parts.netlink.getLink({ index: this.index })!.stats
  }

  /** Sums over all pairs, as the driver counted. */
  sum(ring: 'rx' | 'tx', counter: 'available' | 'used' | 'frames'): number {
    return this.pairs.reduce((total, pair) => total + pair[ring].counters()[counter], 0)
  }

  /** Pulls the cable and says where driver, ring and vhost disagree about how far a ring is. */
  misplaced(): string[] {
    this.nic.setLink(false)
    const { pairs } = this.nic.backend.inspect()
    return pairs.flatMap(({ pair, bases }) =>
      (['rx', 'tx'] as const).flatMap((ring) => {
        const { available, used, availIdx, usedIdx } = this.pairs[pair]![ring].counters()
        const base = (bases as PairBases)[ring]
        const agree = availIdx === available % 2 ** 16 && usedIdx === used % 2 ** 16 && base === usedIdx
        if (agree) return []
        return [`${this.ifname} pair ${pair} ${ring}: ${JSON.stringify({ available, used, availIdx, usedIdx, base })}`]
      }),
    )
  }

  async close(): Promise<void> {
    try {
      await this.down()
    } finally {
      this.#closing.run()
    }
  }
}
