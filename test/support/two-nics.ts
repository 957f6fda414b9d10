// Two NICs of this process on one Linux bridge, each on vhost-net with a driver, and traffic between them that is
// counted and checked byte for byte.

import assert from 'node:assert/strict'
import { EventEmitter, once, setMaxListeners } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import type { PairBases, RingFault } from '../../lib/backend/index.ts'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Burst, Driver, type DriverOptions, type RxQueue, type TxQueue } from '../../lib/driver/index.ts'
import { type LinkStats, RtNetlink } from '../../lib/host/rtnetlink.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { Bridge } from './bridge.ts'
import { checkFrame, type FrameKind, writeFrame, writeVirtioHeader } from './frames.ts'

const bit = (number: number): bigint => 1n << BigInt(number)

export const VERSION_1 = bit(VIRTIO_F.VIRTIO_F_VERSION_1)
export const MRG_RXBUF = bit(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF)
export const EVENT_IDX = bit(VIRTIO_F.VIRTIO_RING_F_EVENT_IDX)
export const INDIRECT_DESC = bit(VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC)
/** What a GSO frame needs from one driver to the other. */
export const TCP_OFFLOADS =
  bit(VIRTIO_NET_F.VIRTIO_NET_F_CSUM) |
  bit(VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4) |
  bit(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM) |
  bit(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4)

/** Every combination of ring features that the tests go through, by name. */
export const RING_FEATURES: readonly (readonly [name: string, features: bigint])[] = [
  ['VERSION_1 alone', VERSION_1],
  ['MRG_RXBUF', VERSION_1 | MRG_RXBUF],
  ['EVENT_IDX', VERSION_1 | EVENT_IDX],
  ['INDIRECT_DESC', VERSION_1 | INDIRECT_DESC],
  ['all ring features', VERSION_1 | MRG_RXBUF | EVENT_IDX | INDIRECT_DESC],
]

export const ALL_RING_FEATURES = VERSION_1 | MRG_RXBUF | EVENT_IDX | INDIRECT_DESC

/**
 * Frames on their way to one NIC at any time. A tap queue holds 500 (TUN_READQ_SIZE) and drops what comes on top; all
 * flows may meet in one queue.
 */
export const WINDOW = 256

/** How many packets are sent or received in one call. */
const BURST = 32

export interface TwoNicsOptions {
  features: bigint
  /** Default 1. */
  queuePairs?: number
  /** Default 64. */
  queueSize?: number
  /** Default 2048. */
  bufferSize?: number
  /** Of taps and bridge. Default 1500. */
  mtu?: number
  /** Makes the memory of a NIC, for a driver that takes `size` bytes of it. Default one region of that size. */
  memory?: (size: number) => NativeMemory
  /** Guest-physical address of the driver's rings and buffers. Default 0. */
  address?: number
}

/** Frames that one pair of a NIC is to send to the other NIC. */
export interface Flow {
  from: Nic
  pair: number
  frames: number
  /** Bytes of each, Ethernet header included. */
  size: number
  /** Default `udp`. */
  kind?: FrameKind
  /** Lengths of the segments that a packet of `length` bytes, virtio header included, is cut into; each in a buffer. */
  split?: (length: number) => number[]
}

export interface TransferOptions {
  /** How senders and receivers wait for the device: on its calls, or by looking again and again. Default `calls`. */
  wait?: 'calls' | 'polling'
  /** Default 20000. */
  timeoutMs?: number
  /** Frames on their way to one NIC. Default {@link WINDOW}. */
  window?: number
  /** Called after each burst received, with the number of frames of this transfer that have arrived. */
  progress?: (received: number) => void
}

/** Counts down what may be sent, and lets senders wait for more. */
class Credit extends EventEmitter {
  #left: number

  constructor(left: number) {
    super()
    this.#left = left
  }

  take(wanted: number): number {
    const taken = Math.min(wanted, this.#left)
    this.#left -= taken
    return taken
  }

  give(count: number): void {
    if (count === 0) return
    this.#left += count
    this.emit('more')
  }

  async more(signal: AbortSignal): Promise<void> {
    await once(this, 'more', { signal })
  }
}

/** Which frames of one flow have arrived: each once, in any order that several queues may make of it. */
class Arrivals {
  #next = 0
  readonly #early = new Set<number>()

  add(sequence: number, flow: string): void {
    assert.ok(sequence >= this.#next && !this.#early.has(sequence), `frame ${sequence} of ${flow} arrived twice`)
    this.#early.add(sequence)
    while (this.#early.delete(this.#next)) this.#next++
  }

  /** How many arrived with none missing in between. */
  get complete(): number {
    return this.#next
  }
}

/** What went through a NIC, by its driver and by its tap. */
export interface Balance {
  txAvailable: number
  txUsed: number
  tapReceived: number
  rxFrames: number
  tapSent: number
  tapSendDropped: number
}

/** One NIC: guest memory, vhost-net, and the driver at the other end of its rings. */
export class Nic {
  readonly name: string
  /** 0 or 1: which of the two, in the frames it sends. */
  readonly source: number
  readonly memory: NativeMemory
  readonly backend: VhostNetBackend
  /** Every fault of its rings so far. */
  readonly faults: RingFault[] = []
  readonly #driverOptions: DriverOptions
  readonly #netlink: RtNetlink
  readonly #closing: Teardown
  readonly #sent: number[]
  readonly #arrivals = new Map<number, Arrivals>()
  #driver: Driver
  #bases: (PairBases | undefined)[]
  #before = { txAvailable: 0, txUsed: 0, rxFrames: 0 }

  private constructor(
    source: number,
    netlink: RtNetlink,
    driverOptions: DriverOptions,
    backend: VhostNetBackend,
    closing: Teardown,
  ) {
    this.name = source === 0 ? 'A' : 'B'
    this.source = source
    this.memory = driverOptions.memory
    this.backend = backend
    this.#driverOptions = driverOptions
    this.#netlink = netlink
    this.#closing = closing
    this.#sent = new Array<number>(backend.queuePairs).fill(0)
    this.#bases = new Array<undefined>(backend.queuePairs).fill(undefined)
    this.#driver = Driver.create(driverOptions)
    closing.add(() => this.#driver.destroy())
    backend.on('fault', (fault) => this.faults.push(fault))
  }

  static async open(source: number, netlink: RtNetlink, options: TwoNicsOptions): Promise<Nic> {
    const { features, queuePairs = 1, queueSize = 64, bufferSize = 2048, address = 0 } = options
    const { memory: make = (size) => GuestMemory.allocate({ size }) } = options
    const layout = { features, queuePairs, queueSize, bufferSize, address }
    const closing = new Teardown()
    try {
      const memory = closing.own(make(Driver.memoryNeeded(layout)))
      const backend = closing.own(await VhostNetBackend.open({ memory, queuePairs, tap: { ifname: 'vnt%d' } }))
      return new Nic(source, netlink, { ...layout, memory }, backend, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  get driver(): Driver {
    return this.#driver
  }

  get queuePairs(): number {
    return this.backend.queuePairs
  }

  rx(pair: number): RxQueue {
    return this.#driver.pairs[pair]!.rx
  }

  tx(pair: number): TxQueue {
    return this.#driver.pairs[pair]!.tx
  }

  /** Starts a pair where it was stopped, or afresh. */
  start(pair: number): void {
    const { rx, tx } = this.#driver.pairs[pair]!
    const { features } = this.#driverOptions
    const bases = this.#bases[pair]
    if (bases === undefined) this.backend.start(pair, { features, rx: rx.vring, tx: tx.vring })
    else {
      this.backend.start(pair, {
        features,
        rx: { ...rx.vring, base: bases.rx },
        tx: { ...tx.vring, base: bases.tx },
      })
    }
  }

  /** Stops a pair and notes where its rings stand. */
  stop(pair: number): PairBases {
    const bases = this.backend.stop(pair)
    this.#bases[pair] = bases
    return bases
  }

  startAll(): void {
    for (let pair = 0; pair < this.queuePairs; pair++) this.start(pair)
  }

  stopAll(): PairBases[] {
    return Array.from({ length: this.queuePairs }, (_, pair) => this.stop(pair))
  }

  /** A fresh driver in place of the one there is, which is destroyed; every pair must have been stopped. */
  renewDriver(): void {
    const { txAvailable, txUsed, rxFrames } = this.balance()
    this.#before = { txAvailable, txUsed, rxFrames }
    this.#driver.destroy()
    this.#bases = this.#bases.map(() => undefined)
    this.#driver = Driver.create(this.#driverOptions)
  }

  tapStats(): LinkStats {
    const link = this.#netlink.getLink({ ifname: this.backend.ifname })
    assert.ok(link, `there is no link ${this.backend.ifname}`)
    return link.stats
  }

  balance(): Balance {
    const { rx_packets, rx_dropped, rx_frame_errors, tx_packets, tx_dropped } = this.tapStats()
    const balance = {
      ...this.#before,
      tapReceived: rx_packets + rx_dropped + rx_frame_errors,
      tapSent: tx_packets,
      tapSendDropped: tx_dropped,
    }
    for (const { rx, tx } of this.#driver.pairs) {
      const { available, used } = tx.counters()
      balance.txAvailable += available
      balance.txUsed += used
      balance.rxFrames += rx.counters().frames
    }
    return balance
  }

  /** Everything there is to know, for a message. */
  describe(): string {
    const lines = [`NIC ${this.name}: ${JSON.stringify(this.balance())}, faults ${JSON.stringify(this.faults)}`]
    for (const [pair, { rx, tx }] of this.#driver.pairs.entries()) {
      lines.push(`  pair ${pair} ${this.backend.running(pair) ? 'running' : 'stopped'}`)
      lines.push(`    rx ${JSON.stringify(rx.counters())}`, `    tx ${JSON.stringify(tx.counters())}`)
    }
    return lines.join('\n')
  }

  /**
   * Fills a burst with the flow's next frames, as many as there are buffers for, and offers it to the ring. What the
   * ring does not accept is given back to the pool and counts as not sent.
   * @returns how many frames the ring accepted.
   */
  sendFrames({ pair, size, kind = 'udp', split }: Flow, count: number): number {
    const tx = this.tx(pair)
    const length = VIRTIO_NET_HDR_SIZE + size
    const lengths = split?.(length) ?? cut(length, tx.layout.bufferSize)
    assert.equal(
      lengths.reduce((sum, each) => sum + each, 0),
      length,
    )
    const offsets = new Uint32Array(count * lengths.length)
    const buffers = tx.allocate(offsets)
    const packets = Math.floor(buffers / lengths.length)
    const burst = new Burst(packets, packets * lengths.length)
    const pool = Buffer.from(tx.pool.buffer, tx.pool.byteOffset, tx.pool.byteLength)
    const first = this.#sent[pair]!
    for (let p = 0; p < packets; p++) {
      const frame = { kind, source: this.source, pair, size }
      if (lengths.length === 1) {
        const offset = offsets[p]!
        writeVirtioHeader(pool, offset, kind)
        writeFrame(pool, offset + VIRTIO_NET_HDR_SIZE, frame, first + p)
        burst.add(offset, length)
      } else {
        writeVirtioHeader(scratch, 0, kind)
        writeFrame(scratch, VIRTIO_NET_HDR_SIZE, frame, first + p)
        let from = 0
        for (const each of lengths) {
          const offset = offsets[burst.segmentCount]!
          scratch.copy(pool, offset, from, from + each)
          burst.offsets[burst.segmentCount] = offset
          burst.lengths[burst.segmentCount++] = each
          from += each
        }
        burst.segments[burst.packets++] = lengths.length
      }
    }
    const accepted = tx.send(burst)
    tx.release(offsets.subarray(accepted * lengths.length), buffers - accepted * lengths.length)
    this.#sent[pair] = first + accepted
    return accepted
  }

  /**
   * Takes what has arrived on a pair, checks each frame, and gives the buffers back.
   * @param received told of each frame, if given.
   * @returns how many frames there were.
   */
  receiveFrames(pair: number, burst: Burst, received?: (frame: { source: number; pair: number }) => void): number {
    const rx = this.rx(pair)
    const packets = rx.receive(burst)
    const pool = Buffer.from(rx.pool.buffer, rx.pool.byteOffset, rx.pool.byteLength)
    const mergeable = (this.#driverOptions.features & MRG_RXBUF) !== 0n
    for (let p = 0, segment = 0; p < packets; p++) {
      const segments = burst.segments[p]!
      const packet = gather(pool, burst, segment, segments)
      segment += segments
      const frame = checkFrame(packet)
      if (mergeable) assert.equal(packet.readUInt16LE(VIRTIO_NET_HDR.num_buffers), segments)
      assert.equal(frame.source, 1 - this.source, `NIC ${this.name} received its own frame`)
      this.#arrivalsOf(frame.pair).add(frame.sequence, `pair ${frame.pair}`)
      received?.(frame)
    }
    rx.releaseBurst(burst)
    return packets
  }

  #arrivalsOf(pair: number): Arrivals {
    const known = this.#arrivals.get(pair)
    if (known !== undefined) return known
    const made = new Arrivals()
    this.#arrivals.set(pair, made)
    return made
  }

  /** Frames sent by each pair of this NIC so far, and how many of each the peer has received without a gap. */
  deliveries(peer: Nic): { sent: number; received: number }[] {
    return this.#sent.map((sent, pair) => ({ sent, received: peer.#arrivalsOf(pair).complete }))
  }

  close(): void {
    this.#closing.run()
  }
}

const scratch = Buffer.alloc(2 ** 17)

/** Lengths of full buffers and a rest. */
function cut(length: number, bufferSize: number): number[] {
  const lengths = new Array<number>(Math.floor(length / bufferSize)).fill(bufferSize)
  return length % bufferSize === 0 ? lengths : [...lengths, length % bufferSize]
}

/** A received packet in one piece: where it lies, or, of several segments, a copy. */
function gather(pool: Buffer, burst: Burst, segment: number, segments: number): Buffer {
  if (segments === 1) {
    const offset = burst.offsets[segment]!
    return pool.subarray(offset, offset + burst.lengths[segment]!)
  }
  let size = 0
  for (let s = segment; s < segment + segments; s++) {
    const offset = burst.offsets[s]!
    size += pool.copy(scratch, size, offset, offset + burst.lengths[s]!)
  }
  return scratch.subarray(0, size)
}

/** NIC A and NIC B on a bridge that nothing else is on. */
export class TwoNics {
  readonly a: Nic
  readonly b: Nic
  readonly #bridge: Bridge
  readonly #netlink: RtNetlink
  readonly #closing: Teardown

  private constructor(a: Nic, b: Nic, bridge: Bridge, netlink: RtNetlink, closing: Teardown) {
    this.a = a
    this.b = b
    this.#bridge = bridge
    this.#netlink = netlink
    this.#closing = closing
  }

  /** Makes everything and waits until the bridge forwards; no pair runs yet. */
  static async open(options: TwoNicsOptions): Promise<TwoNics> {
    const closing = new Teardown()
    try {
      const netlink = closing.own(RtNetlink.open())
      const bridge = closing.own(new Bridge(netlink))
      const a = closing.own(await Nic.open(0, netlink, options))
      const b = closing.own(await Nic.open(1, netlink, options))
      const nics = new TwoNics(a, b, bridge, netlink, closing)
      await bridge.plugIn(a.backend.ifname, b.backend.ifname)
      nics.setMtu(options.mtu ?? 1500)
      return nics
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  /** Of both taps and the bridge. */
  setMtu(mtu: number): void {
    for (const ifname of [this.a.backend.ifname, this.b.backend.ifname, this.#bridge.ifname]) {
      const { index } = this.#netlink.getLink({ ifname })!
      this.#netlink.setLink(index, { mtu })
    }
  }

  startAll(): void {
    this.a.startAll()
    this.b.startAll()
  }

  peer(nic: Nic): Nic {
    return nic === this.a ? this.b : this.a
  }

  describe(): string {
    return `${this.a.describe()}\n${this.b.describe()}`
  }

  /**
   * Sends all frames of all flows at once and receives them, each checked byte for byte and taken once. No more are on
   * their way to a NIC than its tap queue holds, so that none is lost by design. Rejects at the deadline with the
   * counters of both sides.
   */
  async transfer(flows: readonly Flow[], options: TransferOptions = {}): Promise<void> {
    const { wait = 'calls', timeoutMs = 20_000, window = WINDOW, progress } = options
    const deadline = AbortSignal.timeout(timeoutMs)
    const over = new AbortController()
    const signal = AbortSignal.any([deadline, over.signal])
    // Everybody who waits listens to it.
    setMaxListeners(0, signal)
    let received = 0
    let missing = flows.reduce((sum, { frames }) => sum + frames, 0)
    const credits = new Map([this.a, this.b].map((nic) => [nic, new Credit(window)]))
    const idle = async (sleep: () => Promise<void>): Promise<void> => {
      signal.throwIfAborted()
      await (wait === 'calls' ? sleep() : setImmediate())
    }

    const send = async (flow: Flow): Promise<void> => {
      const tx = flow.from.tx(flow.pair)
      const credit = credits.get(this.peer(flow.from))!
      let left = flow.frames
      while (left > 0) {
        const allowed = credit.take(Math.min(left, BURST))
        if (allowed === 0) {
          await credit.more(signal)
          continue
        }
        const accepted = flow.from.sendFrames(flow, allowed)
        credit.give(allowed - accepted)
        left -= accepted
        if (accepted < allowed) await idle(() => tx.writable(signal))
      }
      while (tx.inFlight > 0) {
        await idle(() => tx.drained(signal))
        tx.reclaim()
      }
    }

    const receive = async (nic: Nic, pair: number): Promise<void> => {
      const burst = new Burst(BURST, 1024)
      while (missing > 0) {
        const frames = nic.receiveFrames(pair, burst)
        if (frames === 0) {
          await idle(() => nic.rx(pair).readable(signal))
          continue
        }
        received += frames
        missing -= frames
        credits.get(nic)!.give(frames)
        progress?.(received)
      }
      over.abort()
    }

    const run = async (task: Promise<void>): Promise<void> => {
      try {
        await task
      } catch (error) {
        // The receivers that wait when the last frame arrives are told by the same signal as everybody after a failure.
        if (over.signal.aborted && error === over.signal.reason) return
        over.abort()
        throw error
      }
    }
    const receivers = [this.a, this.b].flatMap((nic) => nic.driver.pairs.map((_, pair) => receive(nic, pair)))
    const results = await Promise.allSettled([...flows.map(send), ...receivers].map(run))
    const failure = results.find((result) => result.status === 'rejected')
    if (failure === undefined) return
    const what = deadline.aborted ? `${missing} frames were still missing after ${timeoutMs} ms` : 'traffic broke off'
    throw new Error(`${what}: ${String(failure.reason)}\n${this.describe()}`, { cause: failure.reason })
  }

  /**
   * Checks that nothing was lost, doubled or invented on the whole way: what each driver made available was returned and
   * is what its tap counted; what each tap handed out is what the driver received; what one tap took in, the other
   * handed out.
   */
  assertConserved(): void {
    const burst = new Burst(BURST, 1024)
    for (const nic of [this.a, this.b]) {
      for (let pair = 0; pair < nic.queuePairs; pair++) {
        assert.equal(nic.receiveFrames(pair, burst), 0, `a frame too many arrived at NIC ${nic.name}, pair ${pair}`)
        nic.tx(pair).reclaim()
      }
    }
    for (const nic of [this.a, this.b]) {
      const { txAvailable, txUsed, tapReceived, rxFrames, tapSent, tapSendDropped } = nic.balance()
      const sent = nic.deliveries(this.peer(nic)).reduce((sum, each) => sum + each.sent, 0)
      assert.deepEqual(
        { txAvailable, txUsed, tapReceived, peerTapSent: this.peer(nic).balance().tapSent },
        { txAvailable: sent, txUsed: sent, tapReceived: sent, peerTapSent: sent },
        this.describe(),
      )
      assert.deepEqual({ rxFrames, tapSendDropped }, { rxFrames: tapSent, tapSendDropped: 0 }, this.describe())
      assert.deepEqual(nic.faults, [], `NIC ${nic.name}`)
      for (const [pair, { sent, received }] of nic.deliveries(this.peer(nic)).entries()) {
        assert.equal(received, sent, `frames of pair ${pair} of NIC ${nic.name}`)
      }
    }
  }

  close(): void {
    this.#closing.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
