// The driver's ring loop receiving from a device in TypeScript: whatever the two do in whatever order, every buffer has one
// owner, every packet is whole, and kicks follow the standard.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, type RxQueue } from '../../lib/driver/index.ts'
import { broken, deliver, frameOf, withRx } from '../support/driver-ring.ts'
import { KickModel, shapes, wishes } from '../support/kick-model.ts'
import type { RingDevice } from '../support/ring-device.ts'

describe('the ring loop of the driver', () => {
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
        it(`[RING-USED-D01] [RING-USED-D02] [NET-RXB-D03] keeps every buffer, packet and kick right, whatever the order of events, ${name}`, () => {
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
})
