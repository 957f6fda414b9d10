// The driver's ring loop and a device that lies.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, type DriverQueue, type TxQueue } from '../../lib/driver/index.ts'
import { broken, open, withRx, withTx, withTxAsync } from '../support/driver-ring.ts'
import { type Chain, RingDevice } from '../support/ring-device.ts'

describe('the ring loop of the driver', () => {
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
})
