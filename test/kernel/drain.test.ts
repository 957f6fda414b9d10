// Waiting for real vhost-net and ending it: what was sent arrives, whoever waits is told, and nothing is left behind.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { Burst, Driver } from '../../lib/driver/index.ts'
import { StateError } from '../../lib/errors.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { ALL_RING_FEATURES, type Flow, type Nic, RING_FEATURES, TwoNics, VERSION_1 } from '../support/two-nics.ts'

const stateError = (code: string) => (error: unknown) => error instanceof StateError && error.code === code

const soon = (): AbortSignal => AbortSignal.timeout(10_000)

const frame = (from: Nic, pair = 0): Flow => ({ from, pair, size: 200, frames: 1 })

/** Receives so many frames, on whichever pairs they arrive. */
async function receiveAnywhere(nic: Nic, frames: number): Promise<void> {
  const burst = new Burst(64)
  const signal = soon()
  for (let received = 0; received < frames; ) {
    signal.throwIfAborted()
    for (let pair = 0; pair < nic.queuePairs; pair++) received += nic.receiveFrames(pair, burst)
    await setImmediate()
  }
}

describe('closing a driver', () => {
  for (const queuePairs of [1, 4]) {
    for (const [name, features] of RING_FEATURES) {
      it(`waits until everything sent is on its way, over ${queuePairs} pairs with ${name}`, async () => {
        using nics = await TwoNics.open({ features, queuePairs, queueSize: 32 })
        const { a, b } = nics
        nics.startAll()
        for (let pair = 0; pair < queuePairs; pair++) assert.equal(a.sendFrames(frame(a, pair), 32), 32)
        await a.driver.close()
        assert.equal(a.driver.closed, true)
        assert.equal(a.tapStats().rx_packets, 32 * queuePairs)
        await receiveAnywhere(b, 32 * queuePairs)
        assert.deepEqual(a.deliveries(b), new Array(queuePairs).fill({ sent: 32, received: 32 }))
      })
    }
  }

  it('waits for a device that is started only then', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES })
    const { a, b } = nics
    assert.equal(a.sendFrames(frame(a), 10), 10)
    const closed = a.driver.close()
    await setImmediate()
    assert.equal(a.driver.closed, false)
    nics.startAll()
    await closed
    await receiveAnywhere(b, 10)
  })

  it('closes once for all who ask, and nobody hears of it before', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES })
    const { a } = nics
    assert.equal(a.sendFrames(frame(a), 5), 5)
    const both = [a.driver.close(), a.driver.close()].map(async (close) => {
      await close
      assert.equal(a.driver.closed, true)
    })
    nics.startAll()
    await Promise.all(both)
    await a.driver.close()
  })

  it('says in the time given that the device stands still, which ring keeps what, and leaves nothing open', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES })
    const { a } = nics
    a.driver.destroy()
    const before = resources()
    const driver = Driver.create({ memory: a.memory, features: ALL_RING_FEATURES, queueSize: 64 })
    const { tx, rx } = driver.pairs[0]!
    const offsets = new Uint32Array(3)
    assert.equal(tx.allocate(offsets), 3)
    const burst = new Burst(3)
    for (const offset of offsets) burst.add(offset, 100)
    assert.equal(tx.send(burst), 3)
    const reading = assert.rejects(rx.readable(), stateError('ERR_CLOSED'))
    const start = performance.now()
    await assert.rejects(driver.close({ drainTimeoutMs: 300 }), (error) => {
      assert.ok(stateError('ERR_NOT_DRAINED')(error))
      assert.match(String(error), /pair 0 tx: 3/)
      return true
    })
    const took = performance.now() - start
    assert.ok(took >= 299 && took < 3000, `${took} ms`)
    await reading
    assert.equal(driver.closed, true)
    assert.deepEqual(await diffSoon(before), [])
  })

  it('closes at once where nothing was sent, even with the device standing still', async () => {
    using nics = await TwoNics.open({ features: VERSION_1 })
    await nics.a.driver.close({ drainTimeoutMs: 1000 })
    assert.equal(nics.a.driver.closed, true)
  })

  for (const [how, end] of [
    ['closed', (driver: Driver) => driver.close()],
    ['destroyed', async (driver: Driver) => driver.destroy()],
  ] as const) {
    it(`tells everybody who waits that it was ${how}`, async () => {
      using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs: 2 })
      nics.startAll()
      const { driver } = nics.a
      const told = driver.pairs.flatMap(({ rx }) =>
        [rx.readable(), rx.readable(soon())].map((waiting) => assert.rejects(waiting, stateError('ERR_CLOSED'))),
      )
      await end(driver)
      await Promise.all(told)
      await assert.rejects(driver.pairs[0]!.rx.readable(), stateError('ERR_CLOSED'))
      assert.throws(() => driver.pairs[0]!.tx.reclaim(), stateError('ERR_CLOSED'))
    })
  }
})

describe('waiting for a ring', () => {
  for (const [name, features] of RING_FEATURES) {
    describe(`with ${name}`, () => {
      let nics: TwoNics
      let a: Nic
      let b: Nic
      const burst = new Burst(64)

      before(async () => {
        nics = await TwoNics.open({ features })
        ;({ a, b } = nics)
        nics.startAll()
      })

      after(() => {
        nics.close()
      })

      afterEach(async () => {
        await a.tx(0).drained(soon())
        nics.assertConserved()
      })

      /** Until the frame lies in B's ring, without B's driver having been asked to wait for it. */
      async function sendOne(): Promise<void> {
        const { usedIdx } = b.rx(0).counters()
        const signal = soon()
        assert.equal(a.sendFrames(frame(a), 1), 1)
        while (b.rx(0).counters().usedIdx === usedIdx) {
          signal.throwIfAborted()
          await setImmediate()
        }
      }

      it('ends with the reason of the signal that was aborted, before or meanwhile', async () => {
        const reason = new Error('enough of this')
        await assert.rejects(b.rx(0).readable(AbortSignal.abort(reason)), reason)
        const aborter = new AbortController()
        const waiting = assert.rejects(b.rx(0).readable(aborter.signal), reason)
        aborter.abort(reason)
        await waiting
        await assert.rejects(b.rx(0).readable(AbortSignal.timeout(20)), { name: 'TimeoutError' })
      })

      it('goes on for one where another gave up', async () => {
        const aborter = new AbortController()
        const gaveUp = assert.rejects(b.rx(0).readable(aborter.signal), { name: 'AbortError' })
        const readable = b.rx(0).readable(soon())
        aborter.abort()
        await gaveUp
        await sendOne()
        await readable
        assert.equal(b.receiveFrames(0, burst), 1)
      })

      it('wakes both of two who wait', async () => {
        const both = Promise.all([b.rx(0).readable(soon()), b.rx(0).readable(soon())])
        await sendOne()
        await both
        assert.equal(b.receiveFrames(0, burst), 1)
      })

      it('is over at once where a packet is there already', async () => {
        await sendOne()
        await b.rx(0).readable(soon())
        await b.rx(0).readable(soon())
        assert.equal(b.receiveFrames(0, burst), 1)
      })

      it('forgets nobody where another caller takes the packets first', async () => {
        for (let round = 0; round < 20; round++) {
          const readable = b.rx(0).readable(soon())
          const signal = soon()
          assert.equal(a.sendFrames(frame(a), 1), 1)
          // In one go, so that the waiter has no chance to run in between.
          while (b.receiveFrames(0, burst) === 0) signal.throwIfAborted()
          await readable
          assert.equal(b.receiveFrames(0, burst), 0)
          // It looks, finds nothing, waits again, and is woken by the next.
          const again = b.rx(0).readable(soon())
          assert.equal(a.sendFrames(frame(a), 1), 1)
          await again
          assert.equal(b.receiveFrames(0, burst), 1)
        }
      })

      it('serves who waits for room and who waits for everything at the same time', async () => {
        a.stop(0)
        const { num } = a.tx(0).layout
        assert.equal(a.sendFrames(frame(a), num), num)
        assert.equal(a.sendFrames(frame(a), 1), 0)
        const waiting = Promise.all([
          a.tx(0).drained(soon()),
          a.tx(0).writable(soon()),
          a.tx(0).drained(soon()),
          a.tx(0).writable(soon()),
        ])
        a.start(0)
        await waiting
        await receiveAnywhere(b, num)
      })

      it('drains for one while another keeps taking back what was sent', async () => {
        a.stop(0)
        const { num } = a.tx(0).layout
        assert.equal(a.sendFrames(frame(a), num), num)
        const drained = a.tx(0).drained(soon())
        a.start(0)
        const signal = soon()
        while (a.tx(0).inFlight > 0) {
          signal.throwIfAborted()
          a.tx(0).reclaim()
        }
        await drained
        await receiveAnywhere(b, num)
      })
    })
  }
})
