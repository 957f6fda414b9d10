// A NIC with several queue pairs that is operated on while traffic passes: its driver, through the device's registers, sends
// numbered frames on every pair, and a peer on the same bridge answers each with one of its own.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { GuestNic, MmioDevice } from '../../lib/driver/index.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { Bridge } from './bridge.ts'
import { InterruptLine } from './interrupt-line.ts'
import { BURST, NumberedFlow, receiveNumbered } from './numbered-flow.ts'
import { ALL_RING_FEATURES, EVENT_IDX, Nic } from './two-nics.ts'

const QUEUE_SIZE = 256
/** Frames of a pair on their way in one direction: few, so that rings run empty, and ask to be woken, all the time. */
const WINDOW = 24
/** Long enough for a machine whose CPUs take turns; of a ring that stands still none would be. */
const STALL_MS = 30_000

interface Parts {
  nic: VirtioNet
  guest: GuestNic
  peer: Nic
  bridge: Bridge
  netlink: RtNetlink
  closing: Teardown
}

/** Frames so far. */
export interface LiveSums {
  fromGuest: number
  toGuest: number
  /** Of those to the guest. */
  lost: number
  /** For which a tap of the NIC had no room, and the peer's. */
  dropped: number
  droppedByPeer: number
}

export class LiveNic {
  readonly nic: VirtioNet
  readonly guest: GuestNic
  /** From the guest, and to it, by pair. */
  readonly out: readonly NumberedFlow[]
  readonly in: readonly NumberedFlow[]
  /** Frames that taps which are closed by now had no room for. */
  #droppedBefore = 0
  readonly #parts: Parts
  readonly #lossy: boolean
  /** Frames of each pair that the peer owes an answer. */
  readonly #owed: number[]
  readonly #over = new AbortController()
  readonly #running: Promise<unknown>[] = []
  /** Pending while the guest is to send nothing. */
  #still: Promise<void> | undefined
  #failure: unknown

  private constructor(parts: Parts, lossy: boolean) {
    this.#parts = parts
    this.#lossy = lossy
    this.nic = parts.nic
    this.guest = parts.guest
    const { pairs } = parts.guest
    this.out = pairs.map((_, pair) => new NumberedFlow(0, pair))
    this.in = pairs.map((_, pair) => new NumberedFlow(1, pair))
    this.#owed = pairs.map(() => 0)
    parts.guest.on('fault', (error) => this.#fail(error))
    parts.nic.on('fault', ({ message }) => this.#fail(new Error(message)))
  }

  /**
   * With all pairs in use, and in traffic.
   * @param options.lossy whether frames to the guest may be lost: else no more are on their way than a tap's queue holds.
   */
  static async open(queuePairs: number, { lossy }: { lossy: boolean }): Promise<LiveNic> {
    const closing = new Teardown()
    try {
      const netlink = closing.own(RtNetlink.open())
      const bridge = closing.own(new Bridge(netlink))
      const peer = closing.own(await Nic.open(1, netlink, { features: ALL_RING_FEATURES, queueSize: QUEUE_SIZE }))
      const layout = { queuePairs, queueSize: QUEUE_SIZE }
      const size = Math.ceil(GuestNic.memoryNeeded(layout) / 4096) * 4096
      const memory = closing.own(GuestMemory.allocate({ size }))
      const nic = closing.own(await VirtioNet.open({ memory, queuePairs, backend: { tap: { ifname: 'vnl%d' } } }))
      const line = new InterruptLine()
      const transport = closing.own(new VirtioMmioTransport(nic, { interrupts: line }))
      const guest = await GuestNic.start(MmioDevice.probe(transport)!, { memory, ...layout })
      assert.ok((guest.features & EVENT_IDX) !== 0n)
      line.handler = () => guest.handleInterrupt()
      await guest.setQueuePairs(queuePairs)
      await bridge.plugIn(peer.backend.ifname, nic.backend.ifname)
      peer.startAll()
      const live = new LiveNic({ nic, guest, peer, bridge, netlink, closing }, lossy)
      live.#begin()
      await live.flows()
      return live
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  #begin(): void {
    const { guest, peer } = this.#parts
    for (const [pair, { rx }] of guest.pairs.entries()) {
      this.#keep(this.#sendOn(pair))
      this.#keep(this.#receive(rx, (counts) => void counts, pair, 1, this.in))
    }
    const owe = (counts: readonly number[]): void => {
      for (const [pair, count] of counts.entries()) this.#owed[pair] = Math.min(WINDOW, this.#owed[pair]! + count)
    }
    this.#keep(this.#receive(peer.rx(0), owe, 0, 0, this.out))
    this.#keep(this.#answer())
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    this.#over.abort()
  }

  /** Notes whatever ends it but the end of everything. */
  #keep(task: Promise<unknown>): void {
    const noted = task.catch((error: unknown) => {
      if (error !== this.#over.signal.reason) this.#fail(error)
    })
    this.#running.push(noted)
  }

  async #sendOn(pair: number): Promise<void> {
    const { signal } = this.#over
    const { tx } = this.guest.pairs[pair]!
    const flow = this.out[pair]!
    for (;;) {
      await this.#still
      const room = WINDOW - (flow.sent - flow.reached)
      if (room > 0 && flow.send(tx, room) === 0) await tx.writable(signal)
      else await this.#turn()
    }
  }

  async #answer(): Promise<void> {
    const { signal } = this.#over
    const tx = this.#parts.peer.tx(0)
    for (let pair = 0; ; pair = (pair + 1) % this.in.length) {
      const flow = this.in[pair]!
      const room = this.#lossy ? BURST : WINDOW - (flow.sent - flow.reached)
      const count = Math.min(room, this.#owed[pair]!)
      if (count > 0) {
        const sent = flow.send(tx, count)
        this.#owed[pair]! -= sent
        if (sent === 0) await tx.writable(signal)
      }
      await this.#turn()
    }
  }

  async #receive(
    rx: Parameters<typeof receiveNumbered>[0],
    received: (counts: readonly number[]) => void,
    ring: number,
    source: number,
    flows: readonly NumberedFlow[],
  ): Promise<void> {
    const { signal } = this.#over
    for (;;) {
      const counts = receiveNumbered(rx, ring, source, flows)
      received(counts)
      if (counts.every((count) => count === 0)) await rx.readable(signal)
      else await this.#turn()
    }
  }

  async #turn(): Promise<void> {
    await setImmediate()
    this.#over.signal.throwIfAborted()
  }

  /** Resolves once a frame that was sent from now on has come, on every pair and both ways. */
  async flows(): Promise<void> {
    const all = [...this.out, ...this.in]
    const marks = all.map(({ sent }) => sent)
    await this.until('traffic on all pairs', () => all.every(({ reached }, i) => reached > marks[i]!))
  }

  async until(what: string, done: () => boolean): Promise<void> {
    const deadline = Date.now() + STALL_MS
    while (!done()) {
      if (this.#failure !== undefined) throw this.#failure
      assert.ok(Date.now() < deadline, `${what}: not for ${STALL_MS} ms\n${this.describe()}`)
      await setImmediate()
    }
  }

  describe(): string {
    const flow = ({ sent, reached, received }: NumberedFlow): object => ({ sent, reached, received })
    const rings = this.guest.pairs.map(({ rx, tx }) => ({ rx: rx.counters(), tx: tx.counters() }))
    const { out, in: into, nic } = this
    return JSON.stringify({ out: out.map(flow), in: into.map(flow), owed: this.#owed, rings, nic: nic.inspect() })
  }

  /** Opens a tap beside the one it has, up and on the bridge: what is sent on it is not lost. Returns its queues' fds. */
  async plugTap(ifname: string): Promise<number[]> {
    const taps = this.guest.pairs.map(() => Tap.open({ ifname, multiQueue: true }))
    await this.#parts.bridge.plugIn(ifname)
    this.#droppedBefore += this.#dropped(this.nic.backend.ifname)
    return taps.map((tap) => tap.detach())
  }

  #dropped(ifname: string): number {
    return this.#parts.netlink.getLink({ ifname })!.stats.tx_dropped
  }

  /**
   * The guest sends nothing until this resolves: by then everything that it sent has come, each buffer that it made available
   * is back, and nothing is under way to it. Returns how it stands.
   */
  async settle(): Promise<LiveSums> {
    let goOn: () => void = () => undefined
    this.#still = new Promise((resolve) => {
      goOn = resolve
    })
    await this.until('all that the guest sent', () => this.out.every(({ lost }) => lost === 0))
    // Behind all that was sent to it.
    for (const pair of this.#owed.keys()) this.#owed[pair]!++
    await this.until('all answers', () => this.#owed.every((count) => count === 0))
    const come = ({ sent, reached, lost }: NumberedFlow): boolean => reached === sent && (this.#lossy || lost === 0)
    await this.until('the last ones', () => this.in.every(come))
    await this.until('its buffers', () =>
      this.guest.pairs.every(({ tx }) => {
        tx.reclaim()
        return tx.inFlight === 0
      }),
    )
    const sums = this.#sums()
    this.#still = undefined
    goOn()
    return sums
  }

  #sums(): LiveSums {
    const sum = (flows: readonly NumberedFlow[], what: 'received' | 'lost'): number =>
      flows.reduce((total, flow) => total + flow[what], 0)
    return {
      fromGuest: sum(this.out, 'received'),
      toGuest: sum(this.in, 'received'),
      lost: sum(this.in, 'lost'),
      dropped: this.#droppedBefore + this.#dropped(this.nic.backend.ifname),
      droppedByPeer: this.#dropped(this.#parts.peer.backend.ifname),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort()
    await Promise.all(this.#running)
    await this.guest.close()
    this.#parts.closing.run()
    if (this.#failure !== undefined) throw this.#failure
  }
}
