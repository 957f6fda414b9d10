// Traffic between two NICs through real vhost-net, taps and a bridge: every byte checked, every frame counted.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst } from '../../lib/driver/index.ts'
import {
  ALL_RING_FEATURES,
  EVENT_IDX,
  type Flow,
  INDIRECT_DESC,
  MRG_RXBUF,
  RING_FEATURES,
  TCP_OFFLOADS,
  TwoNics,
  VERSION_1,
} from '../support/two-nics.ts'

/** The same frames from every pair of both NICs. */
function bothWays({ a, b }: TwoNics, flow: Omit<Flow, 'from' | 'pair'>): Flow[] {
  return [a, b].flatMap((from) => from.driver.pairs.map((_, pair) => ({ from, pair, ...flow })))
}

/** Calls of all rings of both NICs. */
function calls({ a, b }: TwoNics): { rx: number; tx: number }[] {
  return [a, b].flatMap(({ driver }) =>
    driver.pairs.map(({ rx, tx }) => ({ rx: rx.counters().calls, tx: tx.counters().calls })),
  )
}

/** A header alone, then pieces of growing, odd sizes: as many segments as `most`. */
function pieces(length: number, most: number): number[] {
  if (most === 1) return [length]
  const lengths = [VIRTIO_NET_HDR_SIZE]
  let left = length - VIRTIO_NET_HDR_SIZE
  for (let size = 1; lengths.length < most - 1 && size < left; size = 2 * size + 1) {
    lengths.push(size)
    left -= size
  }
  return [...lengths, left]
}

describe('traffic between two NICs', () => {
  for (const [name, features] of RING_FEATURES) {
    // Without mergeable buffers a frame must fit into one.
    const bufferSize = features & MRG_RXBUF ? 2048 : 9216 + VIRTIO_NET_HDR_SIZE

    for (const queuePairs of [1, 2, 4]) {
      it(`[RING-SUPPLY-D01] [RING-SUPPLY-D02] arrives unchanged both ways over ${queuePairs} pairs with ${name}, from 60 to 9014 bytes a frame`, async () => {
        using nics = await TwoNics.open({ features, queuePairs, bufferSize })
        nics.startAll()
        const frames = 240 / queuePairs
        await nics.transfer(bothWays(nics, { kind: 'raw', size: 60, frames }))
        await nics.transfer(bothWays(nics, { size: 60, frames }))
        await nics.transfer(bothWays(nics, { size: 1514, frames }))
        nics.setMtu(9000)
        await nics.transfer(bothWays(nics, { size: 9014, frames }))
        nics.assertConserved()
      })
    }
  }

  it('[NET-CTRL-MQ-02] arrives on the pair that sent the flow before, once the tap has learnt it', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs: 4 })
    nics.startAll()
    await nics.transfer(bothWays(nics, { size: 60, frames: 1 }))
    const before = nics.b.driver.pairs.map(({ rx }) => rx.counters().frames)
    const flows = [10, 20, 30, 40].map((frames, pair) => ({ from: nics.a, pair, size: 60, frames }))
    await nics.transfer(flows)
    assert.deepEqual(
      nics.b.driver.pairs.map(({ rx }, pair) => rx.counters().frames - before[pair]!),
      [10, 20, 30, 40],
    )
    nics.assertConserved()
  })

  describe('with TCP segmentation offload', () => {
    for (const [name, features, bufferSize] of [
      ['over mergeable buffers of 2048 bytes', ALL_RING_FEATURES, 2048],
      ['in one buffer without mergeable ones', VERSION_1 | EVENT_IDX, 65562],
    ] as const) {
      for (const queuePairs of [1, 2]) {
        it(`brings frames of 65000 bytes through whole, ${name}, over ${queuePairs} pairs`, async () => {
          using nics = await TwoNics.open({ features: features | TCP_OFFLOADS, queuePairs, bufferSize })
          nics.startAll()
          await nics.transfer(bothWays(nics, { kind: 'tcp-gso', size: 65_000, frames: 60 / queuePairs }))
          nics.assertConserved()
        })
      }
    }
  })

  describe('of packets in several segments', () => {
    for (const [name, features, queueSize] of [
      ['as chains of descriptors', VERSION_1 | MRG_RXBUF, 64],
      ['in indirect tables', VERSION_1 | MRG_RXBUF | INDIRECT_DESC, 64],
      ['as chains that take the whole ring', VERSION_1, 8],
      ['in more indirect tables than the ring would hold chains', VERSION_1 | INDIRECT_DESC, 8],
    ] as const) {
      it(`arrives unchanged, ${name}`, async () => {
        using nics = await TwoNics.open({ features, queueSize })
        nics.startAll()
        const most = nics.a.tx(0).layout.maxSegments
        for (let segments = 2; segments <= most; segments += segments < 8 ? 1 : 5) {
          const split = (length: number): number[] => pieces(length, segments)
          await nics.transfer(bothWays(nics, { size: 1514, frames: 40, split }))
        }
        nics.assertConserved()
      })
    }
  })

  describe('through a ring whose 16-bit indices wrap', () => {
    for (const [name, features] of [RING_FEATURES[0]!, RING_FEATURES.at(-1)!]) {
      it(`goes on past 65536 chains of 64 entries, with ${name}`, async () => {
        using nics = await TwoNics.open({ features, queueSize: 64 })
        nics.startAll()
        const frames = 65_536 + 100
        const flow: Flow = { from: nics.a, pair: 0, kind: 'raw', size: 60, frames }
        await nics.transfer([flow], { wait: 'polling', timeoutMs: 50_000 })
        assert.equal(nics.a.tx(0).counters().availIdx, 100)
        assert.equal(nics.b.rx(0).counters().usedIdx, 100)
        // On both sides of the wrap somebody sleeps, too.
        await nics.transfer([{ ...flow, frames: 100 }])
        nics.assertConserved()
      })
    }
  })

  describe('while the device stands still', () => {
    for (const [name, features, segments, accepted] of [
      ['as many packets as the ring has entries', VERSION_1, 1, 16],
      ['as many chains as fit', VERSION_1, 3, 5],
      ['an indirect table for every entry', VERSION_1 | INDIRECT_DESC, 2, 16],
    ] as const) {
      it(`fills the ring with ${name}, refuses more, and loses none`, async () => {
        using nics = await TwoNics.open({ features, queueSize: 16 })
        const { a, b } = nics
        const split = (length: number): number[] => pieces(length, segments)
        const flow: Flow = { from: a, pair: 0, size: 200, frames: 16, split }
        assert.equal(a.sendFrames(flow, 16), accepted)
        assert.equal(a.sendFrames(flow, 16), 0)
        assert.equal(a.tx(0).inFlight, accepted)
        assert.equal(a.tx(0).counters().freeBuffers, 32 - accepted * segments)
        nics.startAll()
        const signal = AbortSignal.timeout(10_000)
        const burst = new Burst(32)
        await a.tx(0).drained(signal)
        for (let received = 0; received < accepted; received += b.receiveFrames(0, burst)) {
          await b.rx(0).readable(signal)
        }
        nics.assertConserved()
      })
    }
  })

  describe('with few notifications', () => {
    it('kicks the device far less often than it sends, with EVENT_IDX', async () => {
      using nics = await TwoNics.open({ features: VERSION_1 | EVENT_IDX, queueSize: 256 })
      nics.startAll()
      await nics.transfer(bothWays(nics, { size: 60, frames: 3000 }))
      for (const { driver } of [nics.a, nics.b]) {
        const { tx, rx } = driver.pairs[0]!
        assert.ok(tx.counters().kicks * 10 < tx.counters().available, nics.describe())
        assert.ok(rx.counters().kicks * 10 < rx.counters().available, nics.describe())
      }
      nics.assertConserved()
    })

    it('is called once for a whole ring that it waits to be drained, with EVENT_IDX', async () => {
      using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queueSize: 64 })
      const { a, b } = nics
      nics.startAll()
      // The first notification after the start is sent in any case.
      await nics.transfer([{ from: a, pair: 0, size: 60, frames: 1 }])
      const before = a.tx(0).counters().calls
      const signal = AbortSignal.timeout(10_000)
      assert.equal(a.sendFrames({ from: a, pair: 0, size: 60, frames: 64 }, 64), 64)
      await a.tx(0).drained(signal)
      assert.ok(a.tx(0).counters().calls - before <= 1, nics.describe())
      const burst = new Burst(64)
      for (let received = 0; received < 64; received += b.receiveFrames(0, burst)) await b.rx(0).readable(signal)
      nics.assertConserved()
    })

    for (const [name, features] of RING_FEATURES) {
      it(`is never called while it polls, with ${name}`, async () => {
        using nics = await TwoNics.open({ features, queuePairs: 2 })
        nics.startAll()
        await nics.transfer(bothWays(nics, { size: 60, frames: 1000 }), { wait: 'polling' })
        nics.assertConserved()
        // vhost sends the first notification after a start whatever the event index says (vhost_notify).
        const allowed = features & EVENT_IDX ? 1 : 0
        for (const { rx, tx } of calls(nics)) assert.ok(rx <= allowed && tx <= allowed, nics.describe())
      })
    }

    for (const [name, features] of RING_FEATURES) {
      it(`wakes a sleeping receiver for a single frame, again and again, with ${name}`, async () => {
        using nics = await TwoNics.open({ features })
        const { a, b } = nics
        nics.startAll()
        const signal = AbortSignal.timeout(20_000)
        const burst = new Burst(32)
        for (let frame = 0; frame < 50; frame++) {
          const readable = b.rx(0).readable(signal)
          // It is asleep for certain.
          await setImmediate()
          assert.equal(a.sendFrames({ from: a, pair: 0, size: 60, frames: 1 }, 1), 1)
          await readable
          assert.equal(b.receiveFrames(0, burst), 1)
        }
        assert.equal(b.rx(0).counters().calls, 50)
        await a.tx(0).drained(signal)
        nics.assertConserved()
      })
    }
  })
})
