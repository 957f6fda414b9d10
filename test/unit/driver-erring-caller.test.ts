// The driver's ring loop and a caller who errs.

import assert from 'node:assert/strict'
import { Burst, type TxQueue } from '../../lib/driver/index.ts'
import { broken, deliver, frameOf, MIN_PACKET, withRx, withTx } from '../support/driver-ring.ts'

describe('the ring loop of the driver', () => {
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
