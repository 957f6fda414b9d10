// When the driver's ring loop asks a device to call.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Burst, type TxQueue } from '../../lib/driver/index.ts'
import { MIN_PACKET, withTx, withTxAsync } from '../support/driver-ring.ts'
import { passesEvent } from '../support/ring-device.ts'
import { soon } from '../support/soon.ts'

describe('the ring loop of the driver', () => {
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

    it('[RING-UNOTIF-D02] wants none while nobody waits, wherever the device stands, with EVENT_IDX', () => {
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
              assert.equal(device.availFlags, 0)
            })
          },
        ),
        { numRuns: 100 },
      )
    })

    it('[RING-UNOTIF-D01] wants none while nobody waits, neither at first nor after somebody did, without EVENT_IDX', async () => {
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

    it('does not wait where the device has returned everything already', async () => {
      await withTxAsync({ num: 16, bufferSize: 128, eventIdx: true }, async (tx, device) => {
        sendSome(tx, 3)
        device.spin(3)
        // Nobody ever signals.
        await tx.drained(AbortSignal.timeout(5000))
        assert.equal(tx.inFlight, 0)
        assert.equal(tx.counters().calls, 0)
      })
    })

    it('[RING-UNOTIF-D03] goes on waiting at a call for nothing', async () => {
      await withTxAsync({ num: 16, bufferSize: 128, eventIdx: true }, async (tx, device) => {
        sendSome(tx, 1)
        const drained = tx.drained(AbortSignal.timeout(5000))
        tx.call.signal()
        await soon('the call was taken', () => tx.counters().calls === 1)
        assert.equal(tx.inFlight, 1)
        device.spin(1)
        tx.call.signal()
        await drained
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
})
