// The driver's ring loop sending to a device in TypeScript: whatever the two do in whatever order, every buffer has one
// owner, every chain is right, and kicks follow the standard.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, type TxQueue } from '../../lib/driver/index.ts'
import { frameOf, MIN_PACKET, withTx } from '../support/driver-ring.ts'
import { KickModel, shapes, wishes } from '../support/kick-model.ts'
import type { Chain, RingDevice } from '../support/ring-device.ts'

describe('the ring loop of the driver', () => {
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
        it(`[RING-DESC-D01] [RING-IND-D01] [RING-IND-D02] [RING-IND-D04] [RING-AVAIL-D01] [RING-ANOTIF-D02] [RING-ANOTIF-D03] [RING-ANOTIF-D04] [RING-ANOTIF-D05] [RING-ANOTIF-D06] [RING-ANOTIF-D07] [BASE-CLEAN-D01] keeps every buffer, chain and kick right, whatever the order of events, ${name}`, () => {
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
})
