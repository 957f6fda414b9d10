// A network device with several queue pairs over PCI, on vhost-net, whose driver looks at a queue only where an interrupt of
// its vector has come. Amid traffic its vectors are masked and let go again, and their messages rewritten. Every interrupt
// that the driver is owed is accounted for.

import {
  PCI_MSIX,
  PCI_MSIX_BIR,
  PCI_MSIX_ENTRY,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS,
} from '../../lib/abi/pci.ts'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { formatIp, formatMac, parseMac } from '../../lib/address.ts'
import { ipv4FromBytes, ipv4ToBytes } from '../../lib/cli/loop/subnet.ts'
import { GuestNic, LocalEvents, LocalMemorySpace, PciDevice, placeBars } from '../../lib/driver/index.ts'
import { findStructures } from '../../lib/driver/pci-structures.ts'
import type { MessageInterrupts } from '../../lib/event/index.ts'
import { RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { KvmMessageInterrupts } from '../../lib/kvm/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { PciBus, type PciFunction } from '../../lib/pci/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { defaultVectors, VirtioPciTransport } from '../../lib/transport/index.ts'
import { hasFeature } from '../../lib/virtio/features.ts'
import { CountingGuest, messageTo } from './counting-guest.ts'
import { EchoTraffic } from './echo-traffic.ts'
import { OwedQueue } from './owed-queue.ts'

export const QUEUE_PAIRS = 4
const QUEUE_SIZE = 64
const CPUS = 2
const BARS_FROM = 0xd000_0000
/** Of the networks for tests of throughput (RFC 2544), which no host has. */
const HOST = ipv4FromBytes(Uint8Array.of(198, 18, 79, 1))
/** Each queue has 16 vectors of the CPUs' to itself, from here on. */
const FIRST_VECTOR = 0x30
const CLASS = 16
/** What the driver's other vectors raise. */
const REST_VECTOR = 0xe0
/** The first queue's in the table: the one before is the configuration's. */
const FIRST_ENTRY = 1
/** Unmasked for so long without the interrupt that is owed, it is lost. */
export const LOST_MS = 1000
const STALL_MS = 30_000

/** One flip in so many masks the whole function; lasts until an interrupt is pending; is followed by a wait for the CPUs. */
const BY_FUNCTION = 13
const HELD = 53
const TURN = 4

/** One of the CPUs' vectors, of one of them. */
interface Target {
  readonly cpu: number
  readonly vector: number
}

interface Vector {
  readonly entry: number
  readonly queue: OwedQueue
  target: Target
  /** Where it went before: for what was sent then, until the CPUs have taken it. */
  readonly before: Set<number>
  /** It is masked, and the CPUs have taken all that was sent before. */
  silent: boolean
}

export interface LostInterrupt {
  queue: string
  /** Of the MSI-X table. */
  entry: number
  target: Target
  usedIdx: number
  /** As the driver armed it. */
  usedEvent: number
  /** What its pending bit says. */
  pending: boolean
}

export interface StormReport {
  flips: number
  /** Flips of the function mask among them. */
  byFunction: number
  /** Flips that lasted until an interrupt was pending. */
  held: number
  rewrites: number
  frames: { sent: number; answered: number }
  /** By pair. */
  interrupts: { rx: number; tx: number }[]
  lost: LostInterrupt[]
  /** Interrupts whose queue had nothing that its driver was to be told of, as the specification allows. */
  spurious: number
  /** Interrupts of a vector that was masked. */
  whileMasked: number
  /** Interrupts by a message that had been replaced. */
  misdirected: number
  seconds: number
}

export interface StormOptions {
  flips: number
  /** Of the flips so many, evenly spread, leave another message behind. */
  rewrites: number
  /** Called every now and then. */
  progress?: (report: StormReport) => void
}

export class InterruptStorm {
  readonly #cpus: CountingGuest
  readonly #function: PciFunction
  readonly #space: LocalMemorySpace
  readonly #vectors: readonly Vector[]
  readonly #traffic: EchoTraffic
  readonly #nic: GuestNic
  readonly #closing: Teardown
  readonly #control: number
  readonly #table: number
  readonly #pendingBits: number
  readonly #seen: Uint32Array
  readonly #random = randomNumbers()
  readonly #lost: LostInterrupt[] = []
  readonly #counts = { flips: 0, byFunction: 0, held: 0, rewrites: 0, whileMasked: 0, misdirected: 0 }
  #started = 0

  private constructor({ cpus, device, space, nic, memory, hostMac }: Parts, closing: Teardown) {
    const { msix = 0 } = findStructures(device)!
    const place = (field: number): number => {
      const value = device.read(msix + field, 4)
      return device.bars.find(({ index }) => index === (value & PCI_MSIX_BIR))!.address! + (value & ~PCI_MSIX_BIR)
    }
    this.#cpus = cpus
    this.#function = device
    this.#space = space
    this.#nic = nic
    this.#closing = closing
    this.#control = msix + PCI_MSIX.PCI_MSIX_FLAGS
    this.#table = place(PCI_MSIX.PCI_MSIX_TABLE)
    this.#pendingBits = place(PCI_MSIX.PCI_MSIX_PBA)
    this.#seen = cpus.counts.slice()
    const queues = nic.pairs.flatMap(({ rx, tx }) => [rx, tx])
    this.#vectors = queues.map((queue, i) => ({
      entry: FIRST_ENTRY + i,
      queue: new OwedQueue(queue, memory),
      target: firstTarget(i),
      before: new Set(),
      silent: false,
    }))
    this.#traffic = new EchoTraffic(nic.pairs, { mac: hostMac, address: HOST, firstPair: HOST + 1 })
  }

  /** @param wrap what stands between the device and KVM's interrupts */
  static async open(wrap = (interrupts: MessageInterrupts): MessageInterrupts => interrupts): Promise<InterruptStorm> {
    const closing = new Teardown()
    let nic: GuestNic | undefined
    try {
      const cpus = closing.own(await CountingGuest.start(CPUS))
      const layout = { queuePairs: QUEUE_PAIRS, queueSize: QUEUE_SIZE }
      const memory = closing.own(GuestMemory.allocate({ size: GuestNic.memoryNeeded(layout) }))
      const backend = { tap: { ifname: 'vns%d' } }
      const net = closing.own(await VirtioNet.open({ memory, queuePairs: QUEUE_PAIRS, backend }))
      const interrupts = closing.own(new KvmMessageInterrupts(cpus.vm, cpus.routes, defaultVectors(net)))
      const events = new LocalEvents()
      const transport = closing.own(new VirtioPciTransport(net, { interrupts: wrap(interrupts), doorbells: events }))
      const space = new LocalMemorySpace()
      const device = transport.function
      new PciBus(space).plug(1, device)
      placeBars(device, BARS_FROM)
      const found = PciDevice.probe(device, { memory: space, events })!
      const table = device.bars[1]!.registers
      for (let entry = 0; entry < defaultVectors(net); entry++) {
        const i = entry - FIRST_ENTRY
        const target = i >= 0 && i < 2 * QUEUE_PAIRS ? firstTarget(i) : { cpu: 0, vector: REST_VECTOR }
        table.write(PCI_MSIX_ENTRY_SIZE * entry + PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_DATA, 4, target.vector)
      }
      nic = await GuestNic.start(found, { memory, ...layout })
      if (!hasFeature(nic.features, VIRTIO_F.VIRTIO_RING_F_EVENT_IDX)) throw new Error('EVENT_IDX was not agreed on')
      await nic.setQueuePairs(QUEUE_PAIRS)
      const hostMac = setUpTap(net.backend.ifname)
      const storm = new InterruptStorm({ cpus, device, space, nic, memory, hostMac }, closing)
      storm.#introducePairs(net.backend.ifname)
      return storm
    } catch (error) {
      await nic?.close()
      throw closing.unwind(error)
    }
  }

  #introducePairs(ifname: string): void {
    using netlink = RtNetlink.open()
    const { index } = netlink.getLink({ ifname })!
    for (const { address, mac } of this.#traffic.endpoints) {
      netlink.addNeighbour(index, { address: formatIp(ipv4ToBytes(address)), mac: formatMac(mac) })
    }
  }

  /** Once. With the traffic over, and every interrupt that was owed come or lost, says what happened. */
  async run({ flips, rewrites, progress }: StormOptions): Promise<StormReport> {
    this.#started = performance.now()
    this.#traffic.start()
    for (let flip = 0; flip < flips; flip++) {
      await this.#flip(Math.floor(((flip + 1) * rewrites) / flips) > Math.floor((flip * rewrites) / flips))
      if (progress !== undefined && flip % 1000 === 999) progress(this.report())
    }
    this.#traffic.pause()
    await this.#until('the last frames and their interrupts', () => {
      const { sent, answered } = this.#traffic
      return answered >= sent && this.#vectors.every(({ queue }) => !queue.owed)
    })
    return this.report()
  }

  async #flip(rewrite: boolean): Promise<void> {
    const byFunction = this.#random(BY_FUNCTION) === 0
    const held = this.#random(HELD) === 0
    // With all of them masked nobody sends any more, and only what was sent is sure to be used.
    const pair = this.#random(QUEUE_PAIRS)
    const vector = this.#vectors[2 * pair + (byFunction && held ? 1 : this.#random(2))]!
    const mask = (masked: boolean): void => (byFunction ? this.#maskAll(masked) : this.#mask(vector, masked))
    mask(true)
    if (held) await this.#hold(vector)
    if (rewrite) this.#rewrite(vector)
    mask(false)
    this.#counts.flips++
    if (byFunction) this.#counts.byFunction++
    if (this.#random(TURN) === 0) await this.#turn()
  }

  #write(vector: Vector, field: number, value: number): void {
    this.#space.write(this.#table + PCI_MSIX_ENTRY_SIZE * vector.entry + field, 4, value)
  }

  #mask(vector: Vector, masked: boolean): void {
    this.#write(vector, PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_VECTOR_CTRL, masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0)
    this.#noteMask(vector, masked)
  }

  #maskAll(masked: boolean): void {
    const { PCI_MSIX_FLAGS_ENABLE, PCI_MSIX_FLAGS_MASKALL } = PCI_MSIX_FLAGS
    this.#function.write(this.#control, 2, PCI_MSIX_FLAGS_ENABLE | (masked ? PCI_MSIX_FLAGS_MASKALL : 0))
    for (const vector of this.#vectors) this.#noteMask(vector, masked)
  }

  #noteMask(vector: Vector, masked: boolean): void {
    vector.queue.masked = masked
    vector.silent = false
  }

  /** While it is masked, by itself or with all others. */
  #rewrite(vector: Vector): void {
    const { target } = vector
    const place = target.vector % CLASS
    const next = { cpu: this.#random(CPUS), vector: target.vector - place + ((place + 1) % CLASS) }
    const { address, data } = messageTo(next.cpu, next.vector)
    this.#write(vector, PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_LOWER_ADDR, Number(address))
    this.#write(vector, PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_UPPER_ADDR, 0)
    this.#write(vector, PCI_MSIX_ENTRY.PCI_MSIX_ENTRY_DATA, data)
    vector.before.add(indexOf(target))
    vector.target = next
    this.#counts.rewrites++
  }

  #pending({ entry }: Vector): boolean {
    return (this.#space.read(this.#pendingBits, 4) & (1 << entry)) !== 0
  }

  /** Until the masked vector has something to send. */
  async #hold(vector: Vector): Promise<void> {
    await this.#turn()
    const { queue } = vector
    const before = queue.interrupts
    // An interrupt that comes all the same leaves nothing to wait for.
    await this.#until(`${queue.name} used amid traffic`, () => queue.owed || queue.interrupts !== before)
    // One that is owed and not pending is for its deadline to find, which counts while the vector is not masked.
    const deadline = performance.now() + LOST_MS
    while (!this.#pending(vector) && performance.now() < deadline) await this.#turn()
    if (this.#pending(vector)) this.#counts.held++
  }

  async #until(what: string, done: () => boolean): Promise<void> {
    const deadline = performance.now() + STALL_MS
    while (!done()) {
      if (performance.now() > deadline) throw new Error(`${what}: not within ${STALL_MS} ms\n${this.#describe()}`)
      await this.#turn()
    }
  }

  #describe(): string {
    const queues = this.#vectors.map(({ queue: { name, usedIdx, usedEvent, masked, owed } }) => {
      return { name, usedIdx, usedEvent, masked, owed }
    })
    return JSON.stringify({ report: this.report(), queues })
  }

  /** The CPUs take what was sent to them, and the driver what they took. */
  async #turn(): Promise<void> {
    await this.#cpus.settled()
    this.#takeInterrupts()
    for (const vector of this.#vectors) {
      vector.before.clear()
      vector.silent = vector.queue.masked
      if (vector.queue.overdue() >= LOST_MS) this.#lose(vector)
    }
    this.#traffic.check()
  }

  #takeInterrupts(): void {
    const { counts } = this.#cpus
    for (let index = 0; index < counts.length; index++) {
      const times = (counts[index]! - this.#seen[index]!) >>> 0
      if (times === 0) continue
      this.#seen[index]! += times
      const vector = this.#vectors[Math.floor(((index % 256) - FIRST_VECTOR) / CLASS)]
      if (vector === undefined) continue
      if (vector.silent) this.#counts.whileMasked += times
      if (index !== indexOf(vector.target) && !vector.before.has(index)) this.#counts.misdirected += times
      vector.queue.interrupted(times)
    }
  }

  /** The storm goes on without it. */
  #lose(vector: Vector): void {
    const { queue, entry, target } = vector
    const { name, usedIdx, usedEvent } = queue
    this.#lost.push({ queue: name, entry, target, usedIdx, usedEvent, pending: this.#pending(vector) })
    queue.wake()
  }

  /** Whether the driver is owed an interrupt by this entry of the table. */
  owes(entry: number): boolean {
    return this.#vectors[entry - FIRST_ENTRY]?.queue.owed === true
  }

  /** What happened so far. */
  report(): StormReport {
    const { flips, byFunction, held, rewrites, whileMasked, misdirected } = this.#counts
    const { sent, answered } = this.#traffic
    const queues = this.#vectors.map(({ queue }) => queue)
    return {
      flips,
      byFunction,
      held,
      rewrites,
      frames: { sent, answered },
      interrupts: Array.from({ length: QUEUE_PAIRS }, (_, pair) => {
        return { rx: queues[2 * pair]!.interrupts, tx: queues[2 * pair + 1]!.interrupts }
      }),
      lost: [...this.#lost],
      spurious: queues.reduce((sum, { spurious }) => sum + spurious, 0),
      whileMasked,
      misdirected,
      seconds: (performance.now() - this.#started) / 1000,
    }
  }

  async close(): Promise<void> {
    await this.#traffic.stop()
    await this.#nic.close()
    this.#closing.run()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

interface Parts {
  readonly cpus: CountingGuest
  readonly device: PciFunction
  readonly space: LocalMemorySpace
  readonly nic: GuestNic
  readonly memory: ReturnType<typeof GuestMemory.allocate>
  readonly hostMac: Uint8Array
}

function firstTarget(queue: number): Target {
  return { cpu: 0, vector: FIRST_VECTOR + CLASS * queue }
}

function indexOf({ cpu, vector }: Target): number {
  return 256 * cpu + vector
}

/** Gives the tap the host's address. @returns the tap's MAC */
function setUpTap(ifname: string): Uint8Array {
  using netlink = RtNetlink.open()
  const { index } = netlink.getLink({ ifname })!
  netlink.addAddress(index, { address: formatIp(ipv4ToBytes(HOST)), prefixLength: 24 })
  netlink.setLink(index, { up: true })
  return parseMac(netlink.getLink({ index })!.mac, 'mac')
}

/** The same at each run (xorshift, Marsaglia 2003): `random(n)` is 0..n-1. */
function randomNumbers(): (below: number) => number {
  let state = 0x2545_f491
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}
