// A virtio-net device with several queue pairs in full traffic: its driver, through the device's registers, sends on every
// pair, while a second NIC sends to it over a bridge; meanwhile the driver asks for more and fewer pairs.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, type DriverPair, GuestNic, MmioDevice, type TxQueue } from '../../lib/driver/index.ts'
import { RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { Bridge } from './bridge.ts'
import { type FlowFrame, writeFrame, writeVirtioHeader } from './frames.ts'
import { InterruptLine } from './interrupt-line.ts'
import { ALL_RING_FEATURES, Nic } from './two-nics.ts'

const QUEUE_SIZE = 256
const FRAME_SIZE = 60
/** Frames of this size tell that all before them have come. */
const MARK_SIZE = 100
/** What goes round in a ring. */
const FRAMES_IN_RING = 64
/** Long enough for a machine whose CPUs take turns; of a ring that stands still none would be. */
const STALL_MS = 30_000

/** What became of the frames that the bridge handed to the device's tap; the rest is under way or was purged. */
export interface Received {
  handed: number
  /** That the guest has. */
  received: number
  /** For which the tap had no room, and said so. */
  dropped: number
}

export class PairsStorm {
  readonly nic: VirtioNet
  readonly guest: GuestNic
  /** All of them, whether they are in use or not. */
  readonly pairs: readonly DriverPair[]
  readonly #sender: Nic
  readonly #netlink: RtNetlink
  readonly #closing: Teardown
  readonly #over = new AbortController()
  readonly #running: Promise<unknown>[] = []
  readonly #receivedOn: number[]
  #marks = 0
  #stopSender: (() => Promise<void>) | undefined
  /** What has failed besides. */
  #failure: unknown

  private constructor(nic: VirtioNet, guest: GuestNic, sender: Nic, netlink: RtNetlink, closing: Teardown) {
    this.nic = nic
    this.guest = guest
    this.pairs = guest.pairs
    this.#sender = sender
    this.#netlink = netlink
    this.#closing = closing
    this.#receivedOn = this.pairs.map(() => 0)
    guest.on('fault', (error) => {
      this.#failure ??= error
    })
  }

  /** With all pairs in use, and in traffic. */
  static async open(queuePairs: number): Promise<PairsStorm> {
    const closing = new Teardown()
    try {
      const netlink = closing.own(RtNetlink.open())
      const bridge = closing.own(new Bridge(netlink))
      const sender = closing.own(await Nic.open(1, netlink, { features: ALL_RING_FEATURES, queueSize: QUEUE_SIZE }))
      const layout = { queuePairs, queueSize: QUEUE_SIZE }
      const size = Math.ceil(GuestNic.memoryNeeded(layout) / 4096) * 4096
      const memory = closing.own(GuestMemory.allocate({ size }))
      const nic = closing.own(await VirtioNet.open({ memory, queuePairs, backend: { tap: { ifname: 'vnp%d' } } }))
      const line = new InterruptLine()
      const transport = closing.own(new VirtioMmioTransport(nic, { interrupts: line }))
      const guest = await GuestNic.start(MmioDevice.probe(transport)!, { memory, ...layout })
      line.handler = () => guest.handleInterrupt()
      await guest.setQueuePairs(queuePairs)
      await bridge.plugIn(sender.backend.ifname, nic.backend.ifname)
      sender.startAll()
      const storm = new PairsStorm(nic, guest, sender, netlink, closing)
      storm.#begin()
      return storm
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  #begin(): void {
    for (const [pair, { tx }] of this.pairs.entries()) {
      send(tx, FRAMES_IN_RING, () => ({ kind: 'udp', source: 0, pair, size: FRAME_SIZE }))
      this.#keep(tx.repeat({ frames: Number.MAX_SAFE_INTEGER, signal: this.#over.signal }))
      this.#keep(this.#receive(pair))
    }
  }

  /** Notes whatever ends it but the end of everything. */
  #keep(task: Promise<unknown>): void {
    const noted = task.catch((error: unknown) => {
      if (error !== this.#over.signal.reason) this.#failure ??= error
    })
    this.#running.push(noted)
  }

  async #receive(pair: number): Promise<void> {
    const { rx } = this.pairs[pair]!
    const burst = new Burst(QUEUE_SIZE)
    const sizes = [FRAME_SIZE, MARK_SIZE].map((size) => VIRTIO_NET_HDR_SIZE + size)
    for (;;) {
      await rx.readable(this.#over.signal)
      const count = rx.receive(burst)
      for (const length of burst.lengths.subarray(0, count)) {
        assert.ok(sizes.includes(length), `a frame of ${length} bytes`)
        if (length === sizes[1]) this.#marks++
      }
      rx.releaseBurst(burst)
      this.#receivedOn[pair]! += count
      await setImmediate()
    }
  }

  /** Has the other NIC send, on as many flows as there are pairs, until it is told to pause. */
  blow(): void {
    const stop = new AbortController()
    const tx = this.#sender.tx(0)
    send(tx, FRAMES_IN_RING, (i) => ({ kind: 'udp', source: 1, pair: i % this.pairs.length, size: FRAME_SIZE }))
    const ended = tx.repeat({ frames: Number.MAX_SAFE_INTEGER, signal: stop.signal })
    const noted = ended.catch((error: unknown) => {
      if (error !== stop.signal.reason) this.#failure ??= error
    })
    this.#stopSender = async () => {
      stop.abort()
      await noted
      await tx.drained(AbortSignal.timeout(STALL_MS))
    }
  }

  /** Resolves once frames have gone out on each of the first `count` pairs and come in there. */
  async flows(count: number): Promise<void> {
    const sent = this.#sentOn()
    const received = [...this.#receivedOn]
    await this.#until(`traffic on ${count} pairs`, () => {
      const now = this.#sentOn()
      const moved = (pair: number): boolean => now[pair]! > sent[pair]! && this.#receivedOn[pair]! > received[pair]!
      return this.pairs.slice(0, count).every((_, pair) => moved(pair))
    })
  }

  #sentOn(): number[] {
    return this.pairs.map(({ tx }) => tx.counters().frames)
  }

  async #until(what: string, done: () => boolean): Promise<void> {
    const deadline = Date.now() + STALL_MS
    while (!done()) {
      if (this.#failure !== undefined) throw this.#failure
      assert.ok(Date.now() < deadline, `${what}: none for ${STALL_MS} ms\n${this.#describe()}`)
      await setImmediate()
    }
  }

  #describe(): string {
    const pairs = this.pairs.map(({ rx, tx }) => ({ rx: rx.counters(), tx: tx.counters() }))
    return JSON.stringify({ nic: this.nic.inspect(), pairs, receivedOn: this.#receivedOn, sums: this.received() })
  }

  /** With one pair in use: the other NIC pauses, and everything on the way to the guest has come, or was lost. */
  async calm(): Promise<void> {
    await this.#stopSender?.()
    this.#stopSender = undefined
    const tx = this.#sender.tx(0)
    for (const marks = this.#marks; this.#marks === marks; ) {
      const { dropped } = this.received()
      send(tx, 1, () => ({ kind: 'udp', source: 1, pair: 0, size: MARK_SIZE }))
      // Then it has come as far as the queue of the device's tap, or found it full.
      await tx.drained(AbortSignal.timeout(STALL_MS))
      if (this.received().dropped === dropped) await this.#until('the mark', () => this.#marks > marks)
    }
  }

  received(): Received {
    const { tx_dropped } = this.#tapStats()
    return {
      handed: this.#sender.balance().tapReceived,
      received: this.#receivedOn.reduce((sum, count) => sum + count, 0),
      dropped: tx_dropped,
    }
  }

  /** Frames that the tap read for the guest. */
  get readByTap(): number {
    return this.#tapStats().tx_packets
  }

  /** Ends the traffic, with all pairs in use, and says what the driver sent and the tap counted. */
  async sent(): Promise<{ available: number; used: number; byTap: number }> {
    this.#over.abort()
    await Promise.all(this.#running)
    if (this.#failure !== undefined) throw this.#failure
    for (const { tx } of this.pairs) await tx.drained(AbortSignal.timeout(STALL_MS))
    const sum = (counter: 'available' | 'used'): number =>
      this.pairs.reduce((total, { tx }) => total + tx.counters()[counter], 0)
    const { rx_packets, rx_dropped, rx_frame_errors } = this.#tapStats()
    return { available: sum('available'), used: sum('used'), byTap: rx_packets + rx_dropped + rx_frame_errors }
  }

  #tapStats() {
    return this.#netlink.getLink({ ifname: this.nic.backend.ifname })!.stats
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort()
    await this.#stopSender?.()
    await Promise.all(this.#running)
    await this.guest.close()
    this.#closing.run()
  }
}

/** Puts so many frames on the ring, which has room for them. */
function send(tx: TxQueue, count: number, frame: (i: number) => FlowFrame): void {
  const offsets = new Uint32Array(count)
  assert.equal(tx.allocate(offsets), count)
  const pool = Buffer.from(tx.pool.buffer, tx.pool.byteOffset, tx.pool.byteLength)
  const burst = new Burst(count)
  for (const [i, offset] of offsets.entries()) {
    const one = frame(i)
    writeVirtioHeader(pool, offset, one.kind)
    burst.add(offset, VIRTIO_NET_HDR_SIZE + writeFrame(pool, offset + VIRTIO_NET_HDR_SIZE, one, i))
  }
  assert.equal(tx.send(burst), count)
}
