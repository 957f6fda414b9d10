// Two NICs of this process on a bridge, and numbered frames both ways on every pair, each checked where it arrives; either
// NIC may be given another driver, or be replaced, amid the traffic.

import { setImmediate } from 'node:timers/promises'
import { Burst, type RxQueue } from '../../lib/driver/index.ts'
import { RtNetlink } from '../../lib/host/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { Bridge } from './bridge.ts'
import { account } from './soak-account.ts'
import { BURST, SoakFlow, wordsOf } from './soak-flow.ts'
import { pairOf } from './soak-frames.ts'
import { QUEUE_SIZE, SoakNic } from './soak-nic.ts'
import { SoakSession } from './soak-session.ts'
import { type SoakSums, since } from './soak-sums.ts'

/** Long enough for a machine whose CPUs take turns; of a ring that stands still none would be. */
const STALL_MS = 30_000

/** Who receives is woken by so many frames, or later by fewer. */
const COALESCING = { frames: 192, milliseconds: 10 }

export class SoakTraffic {
  readonly netlink: RtNetlink
  readonly bridge: Bridge
  readonly nics: SoakNic[] = []
  readonly #queuePairs: number
  /** By the NIC that sends. */
  readonly #flows: readonly (readonly SoakFlow[])[]
  readonly #sessions: (SoakSession | undefined)[] = [undefined, undefined]
  readonly #closing: Teardown
  /** By NIC: frames that came in and were none of the other's. */
  readonly #strange = [0, 0]
  #blowing = false
  /** While there is one, nobody receives: until it resolves. */
  #pause: Promise<void> | undefined
  #failure: unknown

  private constructor(queuePairs: number, netlink: RtNetlink, bridge: Bridge, closing: Teardown) {
    this.#queuePairs = queuePairs
    this.netlink = netlink
    this.bridge = bridge
    this.#closing = closing
    const pairs = [...Array(queuePairs).keys()]
    this.#flows = [0, 1].map((source) => pairs.map((pair) => new SoakFlow(source, pair)))
  }

  static async open(queuePairs: number): Promise<SoakTraffic> {
    const closing = new Teardown()
    const netlink = closing.own(RtNetlink.open())
    const traffic = new SoakTraffic(queuePairs, netlink, closing.own(new Bridge(netlink)), closing)
    try {
      for (const nic of [0, 1]) await traffic.plug(nic)
      return traffic
    } catch (error) {
      await traffic.close()
      throw error
    }
  }

  /** A NIC comes, with a driver, onto the bridge. */
  async plug(nic: number): Promise<void> {
    const made = await SoakNic.open(this.#queuePairs, this.netlink)
    this.nics[nic] = made
    await this.bridge.plugIn(made.ifname)
    await this.restart(nic)
  }

  /** A NIC goes. */
  async unplug(nic: number): Promise<void> {
    await this.#end(nic)
    await this.nics[nic]?.close()
  }

  /** A NIC's driver resets the device, and another one comes. */
  async restart(nic: number): Promise<void> {
    await this.#end(nic)
    await this.nics[nic]!.up()
    const session = new SoakSession((error) => this.#fail(error))
    this.#sessions[nic] = session
    for (const { rx } of this.nics[nic]!.pairs) void session.keep(this.#receive(rx, nic, session.signal))
    if (this.#blowing) this.#blow(nic)
  }

  async #end(nic: number): Promise<void> {
    const session = this.#sessions[nic]
    this.#sessions[nic] = undefined
    await session?.end()
  }

  /** Nobody waits for what does not come any more. */
  #fail(error: unknown): void {
    this.#failure ??= error
    for (const session of this.#sessions) session?.abort()
  }

  async #receive(rx: RxQueue, nic: number, signal: AbortSignal): Promise<void> {
    const flows = this.#flows[1 - nic]!
    const words = wordsOf(rx.pool)
    const burst = new Burst(QUEUE_SIZE)
    for (;;) {
      await rx.readable(signal, COALESCING)
      await this.#pause
      const count = rx.receive(burst)
      for (let i = 0; i < count; i++) {
        const at = burst.offsets[i]! / 4
        const flow = burst.segments[i] === 1 ? flows[pairOf(words, at)] : undefined
        if (!flow?.take(words, at, burst.lengths[i]!)) this.#strange[nic]!++
      }
      rx.releaseBurst(burst)
      for (const flow of flows) flow.moved()
      await setImmediate()
    }
  }

  /** One frame of each flow, both ways: the taps learn by which queue it goes, and it stays in order from then on. */
  async introduce(): Promise<void> {
    // Each flow asks at once for its first, before any asks again.
    let left = this.#flows.flat().length
    await this.send(() => (left-- > 0 ? 1 : 0), 1)
  }

  /** Sends on all flows what `grant` gives, and resolves when nothing of it is on its way any more. */
  async send(grant: (most: number) => number, window: number): Promise<void> {
    const before = this.sums()
    await this.#moving(this.nics.flatMap((_, nic) => this.#runAll(nic, grant, window)))
    await this.#rest(before)
  }

  /** Resolves when all have ended; fails where nothing moves any more. */
  async #moving(tasks: readonly Promise<void>[]): Promise<void> {
    let before = -1
    const watch = setInterval(() => {
      const moved = this.#flows.flat().reduce((sum, { sent, checked }) => sum + sent + checked, 0)
      if (moved === before) this.#fail(new Error(`nothing moved for ${STALL_MS} ms\n${this.#describe()}`))
      before = moved
    }, STALL_MS)
    await Promise.all(tasks)
    clearInterval(watch)
  }

  /** The same, but nobody receives until all was sent: the taps drop what they have no room for. */
  async overrun(grant: (most: number) => number): Promise<void> {
    const before = this.sums()
    let goOn = (): void => undefined
    this.#pause = new Promise((resolve) => {
      goOn = resolve
    })
    try {
      await this.#moving(this.nics.flatMap((_, nic) => this.#runAll(nic, grant, Number.MAX_SAFE_INTEGER)))
    } finally {
      this.#pause = undefined
      goOn()
    }
    await this.#rest(before)
  }

  #run(nic: number, pair: number, grant: (most: number) => number, window: number): Promise<void> {
    const session = this.#sessions[nic]!
    const { tx } = this.nics[nic]!.pairs[pair]!
    return session.keep(this.#flows[nic]![pair]!.run(tx, grant, window, session.signal))
  }

  #runAll(nic: number, grant: (most: number) => number, window: number): Promise<void>[] {
    return this.#flows[nic]!.map((_, pair) => this.#run(nic, pair, grant, window))
  }

  /** Sends on all flows without regard to room, and on those of NICs that come, until it is to calm down. */
  blow(): void {
    this.#blowing = true
    for (const nic of this.nics.keys()) if (this.#sessions[nic] !== undefined) this.#blow(nic)
  }

  #blow(nic: number): void {
    void this.#runAll(nic, () => (this.#blowing ? BURST : 0), Number.MAX_SAFE_INTEGER)
  }

  /** Resolves once a frame of each flow has come that was sent after this was called. */
  async flows(): Promise<void> {
    const all = this.#flows.flat()
    const sent = all.map((flow) => flow.sent)
    await this.#until('traffic on each pair both ways', () => all.every(({ arrived }, i) => arrived > sent[i]!))
  }

  /** Resolves once the device has taken frames of each pair of a NIC that were sent after this was called. */
  async sends(nic: number): Promise<void> {
    const { pairs } = this.nics[nic]!
    const sent = pairs.map(({ tx }) => tx.counters().available)
    await this.#until('frames taken on each pair', () => pairs.every(({ tx }, i) => tx.counters().used > sent[i]!))
  }

  /** Stops it, and resolves when nothing is on its way any more. */
  async calm(): Promise<void> {
    this.#blowing = false
    await this.#until('the end of what was sent', () =>
      this.nics.every(({ pairs }) => pairs.every(({ tx }) => tx.inFlight === 0)),
    )
    for (const nic of this.nics.keys()) for (const flow of this.#flows[nic]!.keys()) await this.#mark(nic, flow)
  }

  /** Sends one more frame on a flow, and waits for it: it comes behind all others. */
  async #mark(nic: number, pair: number): Promise<void> {
    const flow = this.#flows[nic]![pair]!
    const dropped = (): number => this.nics[1 - nic]!.tapStats().tx_dropped
    for (let before = -1; before !== dropped(); ) {
      before = dropped()
      let left = 1
      await this.#run(nic, pair, () => (left-- > 0 ? 1 : 0), Number.MAX_SAFE_INTEGER)
    }
    await this.#until('the last frame', () => flow.arrived === flow.sent)
  }

  async #until(what: string, done: () => boolean): Promise<void> {
    const deadline = Date.now() + STALL_MS
    while (!done()) {
      if (this.#failure !== undefined) throw this.#failure
      if (Date.now() > deadline) throw new Error(`${what}: none for ${STALL_MS} ms\n${this.#describe()}`)
      await setImmediate()
    }
  }

  #describe(): string {
    const flows = this.#flows.flat().map(({ sent, arrived }) => ({ sent, arrived }))
    const nics = this.nics.map(({ nic, pairs, faults }) => ({
      nic: nic.inspect(),
      faults,
      rings: pairs.map(({ rx, tx }) => ({ rx: rx.counters(), tx: tx.counters() })),
    }))
    return JSON.stringify({ flows, nics })
  }

  get flowCount(): number {
    return this.#flows.flat().length
  }

  get sent(): number {
    return this.#flows.flat().reduce((total, { sent }) => total + sent, 0)
  }

  /** Until each frame has come, or was dropped by a tap, or nothing moves any more. */
  async #rest(before: readonly SoakSums[]): Promise<void> {
    let deadline = Date.now() + STALL_MS
    for (let left = 1, last = 0; left !== 0 && Date.now() < deadline; last = left) {
      if (this.#failure !== undefined) throw this.#failure
      const sums = this.sums().map((now, i) => since(before[i]!, now))
      left = sums.reduce((sum, now) => sum + now.rx_packets - now.tx_dropped - now.received, 0)
      if (left !== last) deadline = Date.now() + STALL_MS
      await setImmediate()
    }
    for (const flow of this.#flows.flat()) flow.settle()
  }

  /** By direction: from the first NIC to the second, and back. */
  sums(): SoakSums[] {
    return account(this.nics, this.#flows)
  }

  /** Of what was sent and received at any time: what must never be. */
  wrong(): string[] {
    return [
      ...this.#flows
        .flat()
        .flatMap(({ doubled }, flow) => (doubled === 0 ? [] : [`flow ${flow}: ${doubled} frames came twice`])),
      ...this.#strange.flatMap((count, nic) =>
        count === 0 ? [] : [`to NIC ${nic}: ${count} frames are not as they were sent`],
      ),
      ...this.nics.flatMap(({ faults }) => faults),
    ]
  }

  async close(): Promise<void> {
    this.#blowing = false
    for (const nic of this.nics.keys()) await this.unplug(nic)
    this.#closing.run()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
