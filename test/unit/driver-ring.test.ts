// The driver's ring loop against a device in TypeScript: whatever the two do in whatever order, every buffer has one
// owner, every chain is right, and notifications follow the standard; a device that lies and a caller who errs are
// refused. Needs no kernel beyond memory and eventfds.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, Driver, type DriverQueue, type RxQueue, type TxQueue } from '../../lib/driver/index.ts'
import { QueueError } from '../../lib/errors.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { type Chain, passesEvent, RingDevice } from '../support/ring-device.ts'

interface RingOptions {
  num: number
  bufferSize: number
  eventIdx?: boolean
  indirect?: boolean
  mrgRxbuf?: boolean
  /** Chains that went through before the test begins. */
  start?: number
}

const MIN_PACKET = VIRTIO_NET_HDR_SIZE + 14

function featuresOf({ eventIdx, indirect, mrgRxbuf }: RingOptions): bigint {
  const bits = [
    VIRTIO_F.VIRTIO_F_VERSION_1,
    ...(eventIdx ? [VIRTIO_F.VIRTIO_RING_F_EVENT_IDX] : []),
    ...(indirect ? [VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC] : []),
    ...(mrgRxbuf ? [VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF] : []),
  ]
  return bits.reduce((features, bit) => features | (1n << BigInt(bit)), 0n)
}

interface Opened {
  driver: Driver
  memory: GuestMemory
  [Symbol.dispose](): void
}

/** A driver on memory of its own. */
function open(options: RingOptions): Opened {
  const layout = { features: featuresOf(options), queueSize: options.num, bufferSize: options.bufferSize }
  const memory = GuestMemory.allocate({ size: Driver.memoryNeeded(layout), backing: 'anonymous' })
  const driver = Driver.create({ ...layout, memory })
  return {
    driver,
    memory,
    [Symbol.dispose]() {
      driver.destroy()
      memory.close()
    },
  }
}

/** Its transmit queue and a device at the other end, with `start` chains behind them. */
function txOf({ driver, memory }: Opened, { num, start = 0 }: RingOptions): { tx: TxQueue; device: RingDevice } {
  const { tx } = driver.pairs[0]!
  const device = new RingDevice(memory, tx.layout)
  const offsets = new Uint32Array(num)
  const burst = new Burst(num)
  for (let left = start; left > 0; ) {
    const count = Math.min(left, num)
    tx.allocate(offsets.subarray(0, count))
    burst.clear()
    for (const offset of offsets.subarray(0, count)) burst.add(offset, MIN_PACKET)
    assert.equal(tx.send(burst), count)
    device.spin(count)
    assert.equal(tx.reclaim(), count)
    left -= count
  }
  tx.kick.read()
  return { tx, device }
}

function withTx(options: RingOptions, use: (tx: TxQueue, device: RingDevice) => void): void {
  using opened = open(options)
  const { tx, device } = txOf(opened, options)
  use(tx, device)
}

async function withTxAsync(
  options: RingOptions,
  use: (tx: TxQueue, device: RingDevice) => Promise<void>,
): Promise<void> {
  using opened = open(options)
  const { tx, device } = txOf(opened, options)
  await use(tx, device)
}

/** The same with a receive queue. */
function withRx(options: RingOptions, use: (rx: RxQueue, device: RingDevice) => void): void {
  using opened = open(options)
  const { driver, memory } = opened
  const { rx } = driver.pairs[0]!
  const device = new RingDevice(memory, rx.layout)
  const burst = new Burst(options.num)
  for (let buffer = 0; buffer < rx.layout.bufferCount; buffer++) {
    rx.pool[buffer * rx.layout.bufferSize + VIRTIO_NET_HDR.num_buffers] = 1
  }
  for (let left = options.start ?? 0; left > 0; ) {
    const count = Math.min(left, options.num)
    device.spin(count, MIN_PACKET)
    assert.equal(rx.receive(burst), count)
    rx.releaseBurst(burst)
    left -= count
  }
  rx.kick.read()
  use(rx, device)
}

/** A virtio header and bytes that follow from the seed. */
function frameOf(size: number, seed: number): Buffer {
  const packet = Buffer.alloc(VIRTIO_NET_HDR_SIZE + size)
  for (let at = VIRTIO_NET_HDR_SIZE; at < packet.length; at++) packet[at] = (seed * 31 + at * 7) & 0xff
  return packet
}

/** Puts packets into the buffers that the driver posted, cut to their size; each packet's are used together. */
function deliver(device: RingDevice, packets: readonly Buffer[]): Chain[][] {
  return packets.map((packet) => {
    const chains: Chain[] = []
    const elements: { id: number; length: number }[] = []
    for (let from = 0; from < packet.length; ) {
      const chain = device.take()
      assert.ok(chain, 'no buffer is posted')
      chains.push(chain)
      const [segment, ...more] = chain.segments
      assert.deepEqual(more, [])
      assert.deepEqual(segment, { ...segment, length: device.layout.bufferSize, deviceWrites: true })
      const part = packet.subarray(from, from + segment!.length)
      device.bytes(segment!.address, part.length).set(part)
      elements.push({ id: chain.head, length: part.length })
      from += part.length
    }
    const header = device.bytes(chains[0]!.segments[0]!.address, VIRTIO_NET_HDR_SIZE)
    Buffer.from(header.buffer, header.byteOffset, header.length).writeUInt16LE(
      chains.length,
      VIRTIO_NET_HDR.num_buffers,
    )
    device.giveBack(...elements)
    return chains
  })
}

const broken = (error: unknown): boolean => error instanceof QueueError && error.code === 'ERR_QUEUE_BROKEN'

/** Expects exactly these kicks for these publications, each from one available index, in total, to another. */
class KickModel {
  readonly #queue: DriverQueue
  readonly #eventIdx: boolean
  #kicks: number

  constructor(queue: DriverQueue, eventIdx: boolean) {
    this.#queue = queue
    this.#eventIdx = eventIdx
    this.#kicks = queue.counters().kicks
  }

  check(wish: { event: number; noNotify: boolean }, ...published: readonly (readonly [bigint, bigint])[]): void {
    const wanted = published.filter(
      ([before, now]) => now > before && (this.#eventIdx ? passesEvent(wish.event, before, now) : !wish.noNotify),
    ).length
    const { kicks } = this.#queue.counters()
    assert.equal(kicks - this.#kicks, wanted, `kicks, for ${JSON.stringify(wish)} and ${published}`)
    assert.equal(Number(this.#queue.kick.read()), wanted, 'what the eventfd counted')
    this.#kicks = kicks
  }
}

/** Rings to go through: small ones, full size, and ones that are about to wrap. */
const shapes = fc.constantFrom(
  { num: 2, start: 0 },
  { num: 4, start: 3 },
  { num: 8, start: 0 },
  { num: 64, start: 0 },
  { num: 64, start: 65_500 },
  { num: 128, start: 65_536 - 5 },
)

/** Where the device wants to be notified, relative to the driver's available index now: mostly close to it. */
const wishes = fc.record({
  event: fc.oneof(fc.integer({ min: -70, max: 70 }), fc.integer({ min: 0, max: 65_535 })),
  noNotify: fc.boolean(),
})

describe('the ring loop of the driver', function () {
  this.timeout(10_000)

  describe('transmitting', () => {
    const sends = fc.record({
      do: fc.constant('send' as const),
      // Segments of each packet; their lengths follow from the seed.
      packets: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 6 })), { minLength: 1, maxLength: 12 }),
      seed: fc.nat(1000),
    })
    const steps = fc.oneof(
      { weight: 4, arbitrary: sends },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant('allocate' as const), count: fc.integer({ min: 0, max: 40 }) }),
      },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('take' as const), count: fc.integer({ min: 1, max: 12 }) }) },
      {
        weight: 4,
        arbitrary: fc.record({ do: fc.constant('return' as const), picks: fc.array(fc.nat(), { maxLength: 12 }) }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('reclaim' as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant('release' as const), picks: fc.array(fc.nat(), { maxLength: 8 }) }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('wish' as const), wish: wishes }) },
    )
    type Step = typeof steps extends fc.Arbitrary<infer S> ? S : never

    interface Packet {
      offsets: number[]
      lengths: number[]
      bytes: Buffer[]
      descriptors: number
    }

    /** What must be so, kept in plain arrays. */
    class TxModel {
      readonly #tx: TxQueue
      readonly #device: RingDevice
      readonly #indirect: boolean
      readonly #kicks: KickModel
      readonly #user: number[] = []
      /** Made available, oldest first, and not taken by the device yet. */
      readonly #available: Packet[] = []
      readonly #taken: { chain: Chain; packet: Packet }[] = []
      /** Returned by the device, and not reclaimed yet. */
      #returned: Packet[] = []
      #wish = { event: 0, noNotify: false }
      #total: bigint
      #frames: number
      #bytes: number

      constructor(tx: TxQueue, device: RingDevice, { eventIdx, indirect }: { eventIdx: boolean; indirect: boolean }) {
        this.#tx = tx
        this.#device = device
        this.#indirect = indirect
        this.#kicks = new KickModel(tx, eventIdx)
        const { available, frames, bytes } = tx.counters()
        this.#total = BigInt(available)
        this.#frames = frames
        this.#bytes = bytes
      }

      get #inRing(): Packet[] {
        return [...this.#available, ...this.#taken.map(({ packet }) => packet), ...this.#returned]
      }

      #reclaimed(): void {
        for (const { lengths } of this.#returned) {
          this.#frames++
          this.#bytes += lengths.reduce((sum, length) => sum + length, 0) - VIRTIO_NET_HDR_SIZE
        }
        this.#returned = []
      }

      run(step: Step): void {
        switch (step.do) {
          case 'allocate': {
            const offsets = new Uint32Array(step.count)
            const free = this.#tx.counters().freeBuffers + this.#returned.reduce((sum, p) => sum + p.offsets.length, 0)
            const count = this.#tx.allocate(offsets)
            assert.equal(count, Math.min(step.count, free))
            this.#reclaimed()
            for (const offset of offsets.subarray(0, count)) {
              assert.equal(offset % this.#tx.layout.bufferSize, 0)
              this.#user.push(offset)
            }
            break
          }
          case 'send':
            this.#send(step.packets, step.seed)
            break
          case 'take':
            for (let left = step.count; left > 0; left--) this.#take()
            break
          case 'return': {
            for (const pick of step.picks) {
              const [entry] = this.#taken.splice(pick % (this.#taken.length || 1), 1)
              if (entry === undefined) break
              this.#device.giveBack({ id: entry.chain.head, length: 0 })
              this.#returned.push(entry.packet)
            }
            break
          }
          case 'reclaim':
            assert.equal(this.#tx.reclaim(), this.#returned.length)
            this.#reclaimed()
            break
          case 'release': {
            const offsets = step.picks.flatMap((pick) => this.#user.splice(pick % (this.#user.length || 1), 1))
            this.#tx.release(Uint32Array.from(offsets), offsets.length)
            break
          }
          case 'wish':
            this.#wish = { ...step.wish, event: Number(BigInt.asUintN(16, this.#total + BigInt(step.wish.event))) }
            this.#device.availEvent = this.#wish.event
            this.#device.noNotify = this.#wish.noNotify
            break
        }
        this.#check()
      }

      #send(segmentCounts: readonly number[], seed: number): void {
        const { bufferSize, num, maxSegments } = this.#tx.layout
        const packets: Packet[] = []
        const rest = [...this.#user]
        for (const [index, wanted] of segmentCounts.entries()) {
          const count = Math.min(wanted, maxSegments)
          if (rest.length < count) break
          const offsets = rest.splice(0, count)
          const lengths = offsets.map((_, s) => Math.max(MIN_PACKET, ((seed + index * 13 + s * 29) * 37) % bufferSize))
          const bytes = lengths.map((length, s) => frameOf(length - VIRTIO_NET_HDR_SIZE, seed + index + s))
          for (const [s, offset] of offsets.entries()) this.#tx.pool.set(bytes[s]!, offset)
          packets.push({ offsets, lengths, bytes, descriptors: this.#indirect && count > 1 ? 1 : count })
        }
        const burst = new Burst(packets.length, bufferSize)
        for (const { offsets, lengths } of packets) {
          for (const [s, offset] of offsets.entries()) {
            burst.offsets[burst.segmentCount] = offset
            burst.lengths[burst.segmentCount++] = lengths[s]!
          }
          burst.segments[burst.packets++] = offsets.length
        }
        // The ring takes packets in order until one does not fit, then looks once for what has come back.
        let accepted = 0
        const published: [bigint, bigint][] = []
        const accept = (): void => {
          let room = num - this.#inRing.reduce((sum, { descriptors }) => sum + descriptors, 0)
          const before = this.#total
          for (let packet = packets[accepted]; packet && packet.descriptors <= room; packet = packets[accepted]) {
            room -= packet.descriptors
            this.#available.push(packet)
            this.#user.splice(0, packet.offsets.length)
            this.#total++
            accepted++
          }
          published.push([before, this.#total])
        }
        accept()
        if (accepted < packets.length && this.#returned.length > 0) {
          this.#reclaimed()
          accept()
        }
        assert.equal(this.#tx.send(burst), accepted)
        this.#kicks.check(this.#wish, ...published)
      }

      #take(): void {
        const chain = this.#device.take()
        const packet = this.#available.shift()
        assert.equal(chain === undefined, packet === undefined)
        if (chain === undefined || packet === undefined) return
        assert.equal(chain.indirect, this.#indirect && packet.offsets.length > 1)
        assert.equal(chain.descriptors.length, packet.descriptors)
        assert.deepEqual(
          chain.segments,
          packet.offsets.map((offset, s) => ({
            address: this.#tx.layout.pool + offset,
            length: packet.lengths[s],
            deviceWrites: false,
          })),
        )
        for (const other of this.#taken) {
          const shared: number[] = other.chain.descriptors.filter((descriptor) =>
            chain.descriptors.includes(descriptor),
          )
          assert.deepEqual(shared, [], 'two chains share descriptors')
        }
        this.#taken.push({ chain, packet })
        for (const { packet } of this.#taken) {
          for (const [s, bytes] of packet.bytes.entries()) {
            const there = this.#device.bytes(this.#tx.layout.pool + packet.offsets[s]!, bytes.length)
            assert.ok(bytes.equals(there), 'the bytes of a packet with the device changed')
          }
        }
      }

      #check(): void {
        const counters = this.#tx.counters()
        const inRing = this.#inRing
        const owned = [...this.#user, ...inRing.flatMap(({ offsets }) => offsets)]
        assert.equal(new Set(owned).size, owned.length, 'a buffer has two owners')
        assert.equal(counters.freeBuffers + owned.length, this.#tx.layout.bufferCount, 'a buffer has no owner')
        assert.equal(BigInt(counters.available), this.#total)
        assert.equal(counters.available - counters.used, inRing.length)
        assert.ok(inRing.length <= this.#tx.layout.num)
        assert.equal(BigInt(counters.availIdx), BigInt.asUintN(16, this.#total))
        assert.equal(counters.usedIdx, this.#device.used % 65_536)
        assert.deepEqual([counters.frames, counters.bytes], [this.#frames, this.#bytes])
      }
    }

    for (const eventIdx of [false, true]) {
      for (const indirect of [false, true]) {
        const name = `${eventIdx ? 'with' : 'without'} EVENT_IDX, ${indirect ? 'with' : 'without'} INDIRECT_DESC`
        it(`keeps every buffer, chain and kick right, whatever the order of events, ${name}`, () => {
          fc.assert(
            fc.property(shapes, fc.array(steps, { minLength: 5, maxLength: 60, size: 'max' }), (shape, sequence) => {
              withTx({ ...shape, bufferSize: 128, eventIdx, indirect }, (tx, device) => {
                const model = new TxModel(tx, device, { eventIdx, indirect })
                model.run({ do: 'wish', wish: { event: 0, noNotify: false } })
                model.run({ do: 'allocate', count: 20 })
                for (const step of sequence) model.run(step)
              })
            }),
            { numRuns: 150 },
          )
        })
      }
    }

    it('fills a ring of 32768 entries to the last, twice round 16 bits', () => {
      withTx({ num: 32_768, bufferSize: 128, eventIdx: true, start: 65_530 }, (tx, device) => {
        const offsets = new Uint32Array(2 * 32_768)
        const burst = new Burst(2 * 32_768)
        assert.equal(tx.allocate(offsets), 65_536)
        for (const offset of offsets) burst.add(offset, MIN_PACKET)
        assert.equal(tx.send(burst), 32_768)
        device.spin(32_768)
        assert.equal(tx.reclaim(), 32_768)
      })
    })
  })

  describe('receiving', () => {
    const steps = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant('deliver' as const),
          sizes: fc.array(fc.integer({ min: 14, max: 700 }), { minLength: 1, maxLength: 8 }),
          seed: fc.nat(1000),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          do: fc.constant('receive' as const),
          packets: fc.integer({ min: 1, max: 8 }),
          segments: fc.integer({ min: 1, max: 20 }),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ do: fc.constant('release' as const), picks: fc.array(fc.nat(), { maxLength: 16 }) }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('wish' as const), wish: wishes }) },
    )
    type Step = typeof steps extends fc.Arbitrary<infer S> ? S : never

    interface Delivered {
      packet: Buffer
      addresses: number[]
    }

    class RxModel {
      readonly #rx: RxQueue
      readonly #device: RingDevice
      readonly #mergeable: boolean
      readonly #kicks: KickModel
      readonly #user: number[] = []
      readonly #delivered: Delivered[] = []
      #wish = { event: 0, noNotify: false }
      #available: bigint
      #used: bigint

      constructor(rx: RxQueue, device: RingDevice, { eventIdx, mrgRxbuf }: { eventIdx: boolean; mrgRxbuf: boolean }) {
        this.#rx = rx
        this.#device = device
        this.#mergeable = mrgRxbuf
        this.#kicks = new KickModel(rx, eventIdx)
        const { available, used } = rx.counters()
        this.#available = BigInt(available)
        this.#used = BigInt(used)
      }

      run(step: Step): void {
        switch (step.do) {
          case 'deliver':
            for (const [index, size] of step.sizes.entries()) this.#deliver(size, step.seed + index)
            break
          case 'receive':
            this.#receive(new Burst(step.packets, step.segments))
            break
          case 'release': {
            const offsets = step.picks.flatMap((pick) => this.#user.splice(pick % (this.#user.length || 1), 1))
            this.#rx.release(Uint32Array.from(offsets), offsets.length)
            this.#posted()
            break
          }
          case 'wish':
            this.#wish = { ...step.wish, event: Number(BigInt.asUintN(16, this.#available + BigInt(step.wish.event))) }
            this.#device.availEvent = this.#wish.event
            this.#device.noNotify = this.#wish.noNotify
            break
        }
        this.#check()
      }

      /** The ring was topped up with what buffers there were, in one go. */
      #posted(): void {
        const { num, bufferCount } = this.#rx.layout
        const before = this.#available
        const inRing = Number(before - this.#used)
        this.#available += BigInt(Math.min(num - inRing, bufferCount - this.#user.length - inRing))
        this.#kicks.check(this.#wish, [before, this.#available])
      }

      #deliver(size: number, seed: number): void {
        const { bufferSize } = this.#rx.layout
        const packet = frameOf(this.#mergeable ? size : Math.min(size, bufferSize - VIRTIO_NET_HDR_SIZE), seed)
        const posted = Number(this.#available) - this.#device.taken
        if (posted < Math.ceil(packet.length / bufferSize)) return
        const [chains] = deliver(this.#device, [packet])
        this.#delivered.push({ packet, addresses: chains!.map(({ segments }) => segments[0]!.address) })
      }

      #receive(burst: Burst): void {
        const expected: Delivered[] = []
        let segments = 0
        for (const delivered of this.#delivered.slice(0, burst.segments.length)) {
          segments += delivered.addresses.length
          if (segments > burst.lengths.length) break
          expected.push(delivered)
        }
        if (expected.length === 0 && this.#delivered.length > 0) {
          assert.throws(() => this.#rx.receive(burst), broken, 'the burst is too small for the packet')
          return
        }
        assert.equal(this.#rx.receive(burst), expected.length)
        this.#delivered.splice(0, expected.length)
        let segment = 0
        for (const [p, { packet, addresses }] of expected.entries()) {
          assert.equal(burst.segments[p], addresses.length)
          const parts: Uint8Array[] = []
          for (const address of addresses) {
            const offset = burst.offsets[segment]!
            assert.equal(offset, address - this.#rx.layout.pool)
            parts.push(this.#rx.pool.subarray(offset, offset + burst.lengths[segment++]!))
            this.#user.push(offset)
          }
          const received = Buffer.concat(parts)
          assert.ok(received.subarray(VIRTIO_NET_HDR_SIZE).equals(packet.subarray(VIRTIO_NET_HDR_SIZE)))
          this.#used += BigInt(addresses.length)
        }
        assert.equal(burst.segmentCount, segment)
        if (expected.length > 0) this.#posted()
      }

      #check(): void {
        const { bufferCount, num } = this.#rx.layout
        const counters = this.#rx.counters()
        const inRing = Number(this.#available - this.#used)
        assert.deepEqual([BigInt(counters.available), BigInt(counters.used)], [this.#available, this.#used])
        assert.ok(inRing <= num)
        assert.equal(new Set(this.#user).size, this.#user.length, 'a buffer has two owners')
        assert.equal(counters.freeBuffers + this.#user.length + inRing, bufferCount, 'a buffer has no owner')
        assert.ok(inRing === num || counters.freeBuffers === 0, 'the ring is as full as it can be')
        assert.equal(BigInt(counters.availIdx), BigInt.asUintN(16, this.#available))
        for (const { addresses } of this.#delivered) {
          for (const address of addresses) {
            assert.ok(!this.#user.includes(address - this.#rx.layout.pool), 'the device has a buffer of the caller')
          }
        }
      }
    }

    for (const eventIdx of [false, true]) {
      for (const mrgRxbuf of [false, true]) {
        const name = `${eventIdx ? 'with' : 'without'} EVENT_IDX, ${mrgRxbuf ? 'with' : 'without'} MRG_RXBUF`
        it(`keeps every buffer, packet and kick right, whatever the order of events, ${name}`, () => {
          fc.assert(
            fc.property(shapes, fc.array(steps, { minLength: 5, maxLength: 60, size: 'max' }), (shape, sequence) => {
              withRx({ ...shape, bufferSize: 128, eventIdx, mrgRxbuf }, (rx, device) => {
                const model = new RxModel(rx, device, { eventIdx, mrgRxbuf })
                model.run({ do: 'wish', wish: { event: 0, noNotify: false } })
                for (const step of sequence) model.run(step)
              })
            }),
            { numRuns: 150 },
          )
        })
      }
    }
  })

  describe('asking for calls', () => {
    /** So many packets of one segment, made available. */
    function sendSome(tx: TxQueue, count: number): void {
      const offsets = new Uint32Array(count)
      assert.equal(tx.allocate(offsets), count)
      const burst = new Burst(count)
      for (const offset of offsets) burst.add(offset, MIN_PACKET)
      assert.equal(tx.send(burst), count)
    }

    /** Waiting for something that happens at once or never, so that what the ring says meanwhile can be looked at. */
    async function during(wait: (signal: AbortSignal) => Promise<void>, look: () => void): Promise<void> {
      const aborter = new AbortController()
      const waiting = assert.rejects(wait(aborter.signal), { name: 'AbortError' })
      look()
      aborter.abort()
      await waiting
    }

    for (const start of [0, 3, 65_533, 65_536]) {
      it(`wants one for the next packet, or for the last of all sent, with EVENT_IDX, after ${start} chains`, async () => {
        await withTxAsync({ num: 16, bufferSize: 128, eventIdx: true, start }, async (tx, device) => {
          sendSome(tx, 10)
          const expectEvent = (index: number) => () => assert.equal(device.usedEvent, (start + index) % 65_536)
          await during((signal) => tx.writable(signal), expectEvent(0))
          await during((signal) => tx.drained(signal), expectEvent(9))
          device.giveBack({ id: device.take()!.head, length: 0 })
          assert.equal(tx.reclaim(), 1)
          await during((signal) => tx.drained(signal), expectEvent(9))
          await during((signal) => tx.writable(signal), expectEvent(1))
        })
      })
    }

    it('wants none while nobody waits, wherever the device stands, with EVENT_IDX', () => {
      fc.assert(
        fc.property(
          fc.constantFrom(2, 16, 128),
          fc.oneof(fc.nat(200), fc.integer({ min: 65_300, max: 65_700 })),
          fc.nat(),
          fc.nat(),
          fc.nat(),
          (num, start, sent, signalled, more) => {
            withTx({ num, bufferSize: 128, eventIdx: true, start }, (tx, device) => {
              const count = 1 + (sent % num)
              sendSome(tx, count)
              device.spin(count)
              assert.equal(tx.reclaim(), count)
              // The device may look at the event index only now, for anything that it has returned since it looked last,
              // and for what it returns next.
              const used = BigInt(start + count)
              const before = used - BigInt(signalled % (count + 1))
              const now = used + BigInt(more % (num + 1))
              assert.equal(passesEvent(device.usedEvent, before, now), false, `${device.usedEvent}, ${before}, ${now}`)
            })
          },
        ),
        { numRuns: 100 },
      )
    })

    it('wants none while nobody waits, neither at first nor after somebody did, without EVENT_IDX', async () => {
      await withTxAsync({ num: 16, bufferSize: 128 }, async (tx, device) => {
        assert.equal(device.availFlags, 1)
        sendSome(tx, 2)
        await during(
          (signal) => tx.drained(signal),
          () => assert.equal(device.availFlags, 0),
        )
        device.spin(2)
        assert.equal(tx.reclaim(), 2)
        assert.equal(device.availFlags, 1)
      })
    })

    it('ends the wait where the device was faster than the wish to be called', async () => {
      await withTxAsync({ num: 16, bufferSize: 128, eventIdx: true }, async (tx, device) => {
        sendSome(tx, 3)
        device.spin(3)
        // Nobody ever signals.
        await tx.drained(AbortSignal.timeout(5000))
        assert.equal(tx.inFlight, 0)
        assert.equal(tx.counters().calls, 0)
      })
    })

    it('wakes who waits at the call, and counts it', async () => {
      await withTxAsync({ num: 16, bufferSize: 128, eventIdx: true }, async (tx, device) => {
        sendSome(tx, 3)
        const drained = tx.drained(AbortSignal.timeout(5000))
        device.spin(3)
        tx.call.signal()
        await drained
        assert.equal(tx.counters().calls, 1)
      })
    })
  })

  describe('refuses a device that', () => {
    /** Three packets with the device: heads 0, 1 (whose chain goes on in 2) and 3, of a ring of 8. */
    function withThree(use: (tx: TxQueue, device: RingDevice, heads: number[], second: Chain) => void): void {
      withTx({ num: 8, bufferSize: 128 }, (tx, device) => {
        const offsets = new Uint32Array(4)
        tx.allocate(offsets)
        const burst = new Burst(3, 4)
        burst.segments.set([1, 2, 1])
        burst.offsets.set(offsets)
        burst.lengths.fill(100)
        burst.packets = 3
        burst.segmentCount = 4
        assert.equal(tx.send(burst), 3)
        const chains = [device.take()!, device.take()!, device.take()!]
        use(
          tx,
          device,
          chains.map(({ head }) => head),
          chains[1]!,
        )
      })
    }

    const lies: Record<string, (device: RingDevice, heads: number[], second: Chain) => void> = {
      'returns a descriptor that the ring does not have': (device) => device.giveBack({ id: 8, length: 0 }),
      'returns descriptor 2³² − 1': (device) => device.giveBack({ id: 0xffffffff, length: 0 }),
      'returns a descriptor beyond 16 bits': (device, [head]) => device.giveBack({ id: 65_536 + head!, length: 0 }),
      'returns a descriptor that it was not given': (device, heads, { descriptors }) => {
        const given = [...heads, ...descriptors]
        device.giveBack({ id: [0, 1, 2, 3, 4, 5, 6, 7].find((id) => !given.includes(id))!, length: 0 })
      },
      'returns the middle of a chain': (device, _, { descriptors }) =>
        device.giveBack({ id: descriptors[1]!, length: 0 }),
      'returns a chain twice at once': (device, [head]) =>
        device.giveBack({ id: head!, length: 0 }, { id: head!, length: 0 }),
      'returns more than it was given': (device, heads) =>
        device.giveBack(...[...heads, ...heads].map((id) => ({ id, length: 0 }))),
      'moves its index by more than the ring': (device) => {
        device.usedIdx = 9
      },
      'moves its index back': (device) => {
        device.usedIdx = -1
      },
      'moves its index half-way round': (device) => {
        device.usedIdx = 32_768
      },
    }

    for (const [lie, tell] of Object.entries(lies)) {
      it(`${lie}, and goes on refusing it`, () => {
        withThree((tx, device, heads, second) => {
          tell(device, heads, second)
          assert.throws(() => tx.reclaim(), broken)
          assert.throws(() => tx.reclaim(), broken)
          assert.throws(() => tx.allocate(new Uint32Array(1)), broken)
          // 12 of 16 buffers were free; what was returned before the lie has come back.
          const { used, freeBuffers } = tx.counters()
          assert.equal(freeBuffers, 12 + [0, 1, 3, 4][used]!)
        })
      })
    }

    it('returns a chain again later', () => {
      withThree((tx, device, heads) => {
        device.giveBack({ id: heads[0]!, length: 0 })
        assert.equal(tx.reclaim(), 1)
        device.giveBack({ id: heads[0]!, length: 0 })
        assert.throws(() => tx.reclaim(), broken)
      })
    })

    it('lies to who waits for it', async () => {
      await withTxAsync({ num: 8, bufferSize: 128, eventIdx: true }, async (tx, device) => {
        const offsets = new Uint32Array(1)
        tx.allocate(offsets)
        const burst = new Burst(1)
        burst.add(offsets[0]!, 100)
        tx.send(burst)
        const drained = assert.rejects(tx.drained(AbortSignal.timeout(5000)), broken)
        device.giveBack({ id: 7777, length: 0 })
        tx.call.signal()
        await drained
      })
    })

    const received: Record<string, (device: RingDevice, head: number, header: DataView) => void> = {
      'wrote more than the buffer holds': (device, id) => device.giveBack({ id, length: 129 }),
      'wrote 2³² − 1 bytes': (device, id) => device.giveBack({ id, length: 0xffffffff }),
      'wrote less than a virtio header': (device, id) => device.giveBack({ id, length: 11 }),
      'wrote nothing': (device, id) => device.giveBack({ id, length: 0 }),
      'says that a packet has no buffers': (device, id, header) => {
        header.setUint16(VIRTIO_NET_HDR.num_buffers, 0, true)
        device.giveBack({ id, length: 100 })
      },
      'says that a packet has more buffers than it returned': (device, id, header) => {
        header.setUint16(VIRTIO_NET_HDR.num_buffers, 2, true)
        device.giveBack({ id, length: 100 })
      },
      'says that a packet has more buffers than the ring': (device, id, header) => {
        header.setUint16(VIRTIO_NET_HDR.num_buffers, 9, true)
        device.giveBack({ id, length: 100 })
      },
      'says that a packet has 65535 buffers': (device, id, header) => {
        header.setUint16(VIRTIO_NET_HDR.num_buffers, 65_535, true)
        device.giveBack({ id, length: 100 })
      },
      'returns a receive buffer twice': (device, id, header) => {
        header.setUint16(VIRTIO_NET_HDR.num_buffers, 2, true)
        device.giveBack({ id, length: 100 }, { id, length: 100 })
      },
      'returns a receive buffer that the ring does not have': (device) => device.giveBack({ id: 8, length: 100 }),
      'moves the index of received packets by more than the ring': (device) => {
        device.usedIdx = 9
      },
    }

    for (const [lie, tell] of Object.entries(received)) {
      it(`${lie}, and goes on refusing it`, () => {
        withRx({ num: 8, bufferSize: 128, mrgRxbuf: true }, (rx, device) => {
          const { head, segments } = device.take()!
          const header = device.bytes(segments[0]!.address, VIRTIO_NET_HDR_SIZE)
          const view = new DataView(header.buffer, header.byteOffset, header.length)
          view.setUint16(VIRTIO_NET_HDR.num_buffers, 1, true)
          tell(device, head, view)
          const burst = new Burst(8, 64)
          assert.throws(() => rx.receive(burst), broken)
          assert.equal(burst.packets, 0)
          assert.throws(() => rx.receive(burst), broken)
        })
      })
    }

    it('writes anything anywhere into the memory they share, and never gives a buffer to two', () => {
      const writes = fc.array(
        fc.record({
          part: fc.constantFrom('desc' as const, 'avail' as const, 'used' as const, 'pool' as const),
          at: fc.nat(300),
          bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
          move: fc.option(fc.integer({ min: -2, max: 20 })),
        }),
        { minLength: 1, maxLength: 20 },
      )
      fc.assert(
        fc.property(writes, fc.boolean(), fc.boolean(), (all, eventIdx, indirect) => {
          const options = { num: 16, bufferSize: 128, eventIdx, indirect, mrgRxbuf: true }
          using opened = open(options)
          const { driver, memory } = opened
          const { rx, tx } = driver.pairs[0]!
          const owned = new Map<DriverQueue, Set<number>>([
            [rx, new Set()],
            [tx, new Set()],
          ])
          const own = (queue: DriverQueue, offsets: Uint32Array): void => {
            for (const offset of offsets) {
              assert.ok(!owned.get(queue)!.has(offset), `the buffer at ${offset} is the caller's already`)
              assert.ok(offset / 128 < queue.layout.bufferCount && offset % 128 === 0)
              owned.get(queue)!.add(offset)
            }
          }
          const unlessBroken = (operation: () => void): void => {
            try {
              operation()
            } catch (error) {
              if (!broken(error)) throw error
            }
          }
          const burst = new Burst(16, 64)
          const offsets = new Uint32Array(4)
          for (const { part, at, bytes, move } of all) {
            for (const queue of [rx, tx]) {
              const device = new RingDevice(memory, queue.layout)
              memory.write(queue.layout[part] + at, bytes)
              if (move !== null) device.usedIdx = queue.counters().used + move
            }
            unlessBroken(() => {
              const packets = rx.receive(burst)
              assert.ok(packets <= 16)
              own(rx, burst.offsets.subarray(0, burst.segmentCount))
              for (const length of burst.lengths.subarray(0, burst.segmentCount)) assert.ok(length <= 128)
            })
            unlessBroken(() => {
              const taken = offsets.subarray(0, tx.allocate(offsets))
              own(tx, taken)
              const packet = new Burst(4)
              for (const offset of taken) packet.add(offset, 100)
              const sent = tx.send(packet)
              for (const offset of taken.subarray(0, sent)) owned.get(tx)!.delete(offset)
            })
            for (const queue of [rx, tx]) {
              const { freeBuffers } = queue.counters()
              assert.ok(freeBuffers + owned.get(queue)!.size <= queue.layout.bufferCount)
            }
          }
        }),
        { numRuns: 500 },
      )
    })
  })

  describe('refuses a caller who', () => {
    const errors: Record<string, (burst: Burst, offsets: Uint32Array, foreign: number) => void> = {
      'sends one buffer in two packets': (burst, [a]) => {
        burst.add(a!, 100)
        burst.add(a!, 100)
      },
      'sends two halves of one buffer as two segments': (burst, [a]) => {
        burst.add(a!, 50)
        burst.offsets[1] = a! + 64
        burst.lengths[1] = 50
        burst.segments[0] = 2
        burst.segmentCount = 2
      },
      "sends a segment that crosses its buffer's end": (burst, [a]) => burst.add(a! + 100, 29),
      'sends a segment longer than a buffer': (burst, [a]) => burst.add(a!, 129),
      'sends a segment of 2³² − 1 bytes': (burst, [a]) => burst.add(a!, 0xffffffff),
      'sends a segment of no bytes': (burst, [a, b]) => {
        burst.add(a!, 100)
        burst.offsets[1] = b!
        burst.segments[0] = 2
        burst.segmentCount = 2
      },
      'sends a buffer that it did not allocate': (burst, _, foreign) => burst.add(foreign, 100),
      'sends what lies behind the pool': (burst) => burst.add(16 * 128, 100),
      'sends what lies far behind the pool': (burst) => burst.add(0xffffff80, 100),
      'sends a packet without segments': (burst) => {
        burst.packets = 1
      },
      'sends a packet of more segments than the burst has': (burst, [a]) => {
        burst.add(a!, 100)
        burst.segments[0] = 40
      },
      'sends a packet without room for the headers': (burst, [a]) => burst.add(a!, MIN_PACKET - 1),
      'sends a good packet and a bad one': (burst, [a, b]) => {
        burst.add(a!, 100)
        burst.add(b!, 200)
      },
    }

    for (const [error, make] of Object.entries(errors)) {
      it(`${error}, and sends nothing`, () => {
        withTx({ num: 8, bufferSize: 128, indirect: true }, (tx, device) => {
          const all = new Uint32Array(16)
          assert.equal(tx.allocate(all), 16)
          const foreign = all[15]!
          tx.release(all.subarray(15), 1)
          const mine = all.slice(0, 3)
          const before = tx.counters()
          const burst = new Burst(32, 32)
          make(burst, mine, foreign)
          assert.throws(() => tx.send(burst), broken)
          assert.deepEqual(tx.counters(), before)
          assert.equal(device.take(), undefined)
          // What it holds is still its own, and good.
          const good = new Burst(3)
          for (const offset of mine) good.add(offset, 100)
          assert.equal(tx.send(good), 3)
          assert.throws(() => tx.send(good), broken, 'they are the device to return now')
          device.spin(3)
          assert.equal(tx.reclaim(), 3)
        })
      })
    }

    const releases: Record<string, (offsets: Uint32Array, foreign: number) => number[]> = {
      'gives a buffer back twice at once': ([a]) => [a!, a!],
      'gives back a buffer that it did not have': (_, foreign) => [foreign],
      'gives back what lies behind the pool': () => [16 * 128],
    }

    for (const [error, make] of Object.entries(releases)) {
      it(`${error}`, () => {
        withTx({ num: 8, bufferSize: 128 }, (tx) => {
          const all = new Uint32Array(16)
          assert.equal(tx.allocate(all), 16)
          tx.release(all.subarray(15), 1)
          const list = Uint32Array.from(make(all, all[15]!))
          assert.throws(() => tx.release(list, list.length), broken)
          const again = new Uint32Array(16)
          const taken = again.subarray(0, tx.allocate(again))
          assert.equal(new Set(taken).size, taken.length, 'no buffer is in the pool twice')
        })
      })
    }

    it('gives back a buffer of its own and one that is not: both stay where they were', () => {
      withTx({ num: 8, bufferSize: 128 }, (tx) => {
        const all = new Uint32Array(16)
        assert.equal(tx.allocate(all), 16)
        tx.release(all.subarray(15), 1)
        assert.throws(() => tx.release(Uint32Array.of(all[0]!, all[1]!, all[15]!), 3), broken)
        assert.equal(tx.counters().freeBuffers, 1)
        tx.release(all.subarray(0, 2), 2)
        assert.equal(tx.counters().freeBuffers, 3)
      })
    })

    /** Two packets of one segment and one of two, then one that is longer than its buffer. */
    function sendBadBehindGood(tx: TxQueue): void {
      const offsets = new Uint32Array(5)
      assert.equal(tx.allocate(offsets), 5)
      const burst = new Burst(4, 5)
      burst.segments.set([1, 1, 2, 1])
      burst.offsets.set(offsets)
      burst.lengths.set([100, 100, 100, 100, 129])
      burst.packets = 4
      burst.segmentCount = 5
      assert.throws(() => tx.send(burst), broken)
      tx.release(offsets, 5)
    }

    it('sends a bad packet behind good ones: the ring has room for as many as before', () => {
      withTx({ num: 8, bufferSize: 128 }, (tx, device) => {
        for (let time = 0; time < 3; time++) sendBadBehindGood(tx)
        const burst = new Burst(9)
        const offsets = new Uint32Array(9)
        assert.equal(tx.allocate(offsets), 9)
        for (const offset of offsets) burst.add(offset, 100)
        assert.equal(tx.send(burst), 8)
        const heads = Array.from({ length: 8 }, () => device.take()!.head)
        assert.equal(new Set(heads).size, 8)
      })
    })

    it('sends a bad packet behind good ones: the device was given none of their descriptors', () => {
      for (let id = 0; id < 8; id++) {
        withTx({ num: 8, bufferSize: 128 }, (tx, device) => {
          sendBadBehindGood(tx)
          device.giveBack({ id, length: 0 })
          assert.throws(() => tx.reclaim(), broken, `descriptor ${id}`)
        })
      }
    })

    it('gives a buffer back that the device has, or gives one back again later', () => {
      withTx({ num: 8, bufferSize: 128 }, (tx) => {
        const offsets = new Uint32Array(2)
        tx.allocate(offsets)
        const burst = new Burst(1)
        burst.add(offsets[0]!, 100)
        assert.equal(tx.send(burst), 1)
        assert.throws(() => tx.release(offsets, 1), broken)
        tx.release(offsets.subarray(1), 1)
        assert.throws(() => tx.release(offsets.subarray(1), 1), broken)
      })
    })

    it('has closed the kick, whose number may be that of another file by now', () => {
      withTx({ num: 8, bufferSize: 128 }, (tx) => {
        const burst = new Burst(1)
        const offsets = new Uint32Array(1)
        tx.allocate(offsets)
        burst.add(offsets[0]!, 100)
        tx.kick.close()
        assert.throws(() => tx.send(burst), { name: 'StateError', code: 'ERR_CLOSED' })
        assert.equal(tx.inFlight, 0)
      })
    })

    it('gives received buffers back twice', () => {
      withRx({ num: 8, bufferSize: 128 }, (rx, device) => {
        deliver(device, [frameOf(60, 1), frameOf(60, 2)])
        const burst = new Burst(8)
        assert.equal(rx.receive(burst), 2)
        const offsets = burst.offsets.slice(0, 2)
        rx.releaseBurst(burst)
        assert.throws(() => rx.release(offsets, 2), broken)
      })
    })
  })
})
