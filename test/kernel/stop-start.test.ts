// Stopping and starting queue pairs of real vhost-net under traffic: the rings go on where they stood, and no frame is
// lost or doubled; a ring that was broken works again after a stop.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import type { PairBases, RingFault } from '../../lib/backend/index.ts'
import { Burst } from '../../lib/driver/index.ts'
import { StateError } from '../../lib/errors.ts'
import { VhostNet } from '../../lib/host/index.ts'
import type { Vring } from '../../lib/virtio/vring.ts'
import { closeAll, features, type Given, open } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { setUpHost } from '../support/host-frames.ts'
import { since } from '../support/kernel.ts'
import { sysfs } from '../support/tuntap.ts'
import {
  ALL_RING_FEATURES,
  EVENT_IDX,
  type Flow,
  type Nic,
  RING_FEATURES,
  TwoNics,
  VERSION_1,
} from '../support/two-nics.ts'

const RING_PARTS = ['descriptor table', 'available ring', 'used ring']

const stateError = (code: string) => (error: unknown) => error instanceof StateError && error.code === code

/** What a pair's rings say themselves: the index the device takes next is the one after those it returned. */
function positions(nic: Nic, pair: number): PairBases {
  return { rx: nic.rx(pair).counters().usedIdx, tx: nic.tx(pair).counters().availIdx }
}

async function receive(nic: Nic, pair: number, frames: number): Promise<void> {
  const burst = new Burst(64)
  const signal = AbortSignal.timeout(10_000)
  let received = nic.receiveFrames(pair, burst)
  for (; received < frames; received += nic.receiveFrames(pair, burst)) await nic.rx(pair).readable(signal)
  assert.equal(received, frames)
}

async function drained(nic: Nic): Promise<void> {
  const signal = AbortSignal.timeout(10_000)
  await Promise.all(nic.driver.pairs.map(({ tx }) => tx.drained(signal)))
}

describe('stopping and starting queue pairs', () => {
  it('returns where the rings stand: TX at the end of what was sent, RX after what was received', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs: 2 })
    nics.startAll()
    await nics.transfer([
      { from: nics.a, pair: 0, size: 60, frames: 100 },
      { from: nics.a, pair: 1, size: 60, frames: 33 },
      { from: nics.b, pair: 1, size: 1514, frames: 7 },
    ])
    for (const nic of [nics.a, nics.b]) {
      const bases = nic.stopAll()
      assert.deepEqual(bases, [positions(nic, 0), positions(nic, 1)])
      assert.deepEqual(
        bases.map(({ tx }) => tx),
        nic === nics.a ? [100, 33] : [0, 7],
      )
    }
    nics.assertConserved()
  })

  for (const queuePairs of [1, 3]) {
    for (const [name, features] of [RING_FEATURES[0]!, RING_FEATURES.at(-1)!]) {
      it(`delivers what was sent and what arrived in the meantime, 20 times, ${queuePairs} pairs, ${name}`, async () => {
        using nics = await TwoNics.open({ features, queuePairs })
        const { a, b } = nics
        nics.startAll()
        // So that each tap knows which pair a flow belongs to.
        await nics.transfer(
          [a, b].flatMap((from) => from.driver.pairs.map((_, pair): Flow => ({ from, pair, size: 60, frames: 1 }))),
        )
        for (let round = 0; round < 20; round++) {
          const [sender, receiver] = round % 2 === 0 ? [a, b] : [b, a]
          for (const nic of [a, b]) {
            for (let pair = 0; pair < queuePairs; pair++) {
              const before = positions(nic, pair)
              assert.deepEqual(nic.stop(pair), before)
            }
          }
          const frames = 5 + round
          for (let pair = 0; pair < queuePairs; pair++) {
            assert.equal(sender.sendFrames({ from: sender, pair, size: 700, frames }, frames), frames)
          }
          // They wait in the ring, then in the tap of the receiver, whose rings still stand.
          sender.startAll()
          await drained(sender)
          assert.equal(receiver.tapStats().tx_packets, receiver.balance().rxFrames)
          receiver.startAll()
          for (let pair = 0; pair < queuePairs; pair++) await receive(receiver, pair, frames)
        }
        nics.assertConserved()
      })
    }

    it(`loses and doubles nothing where ${queuePairs} pairs stop and start 20 times amid traffic`, async () => {
      using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs })
      const { a, b } = nics
      nics.startAll()
      const frames = 4200 / queuePairs
      const flows = [a, b].flatMap((from) =>
        from.driver.pairs.map((_, pair): Flow => ({ from, pair, size: 300, frames })),
      )
      let restarts = 0
      const progress = (received: number): void => {
        if (received < (restarts + 1) * 400 || restarts === 20) return
        const nic = restarts % 2 === 0 ? a : b
        const pair = restarts++ % queuePairs
        const { tx, rx } = nic.stop(pair)
        // In the middle of it: what the device took it has returned, the rest is still the ring's.
        assert.deepEqual({ tx, rx }, { tx: nic.tx(pair).counters().usedIdx, rx: nic.rx(pair).counters().usedIdx })
        nic.start(pair)
      }
      await nics.transfer(flows, { progress })
      assert.equal(restarts, 20)
      nics.assertConserved()
    })
  }

  it('goes on from the middle of 16 bits, after more than 65536 chains', async () => {
    using nics = await TwoNics.open({ features: VERSION_1 | EVENT_IDX, queueSize: 256 })
    const { a, b } = nics
    nics.startAll()
    const flow: Flow = { from: a, pair: 0, kind: 'raw', size: 60, frames: 65_536 + 34_567 }
    await nics.transfer([flow], { wait: 'polling', timeoutMs: 50_000 })
    const [baseA, baseB] = [a.stop(0), b.stop(0)]
    assert.deepEqual(
      [baseA, baseB],
      [
        { rx: 0, tx: 34_567 },
        { rx: 34_567, tx: 0 },
      ],
    )
    nics.startAll()
    await nics.transfer([
      { ...flow, frames: 1000 },
      { ...flow, from: b, frames: 1000 },
    ])
    nics.assertConserved()
  })

  it('signals both ends of both rings once after a restart, whatever was missed meanwhile', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES })
    const { a } = nics
    const rings = [a.rx(0), a.tx(0)]
    const signals = (): bigint[] => rings.flatMap(({ kick, call }) => [kick.read(), call.read()])
    a.start(0)
    // The buffers that the driver posted when it was made; nobody but this test reads a kick.
    assert.deepEqual(signals(), [1n, 0n, 0n, 0n])
    a.stop(0)
    a.start(0)
    assert.deepEqual(signals(), [1n, 1n, 1n, 1n])
  })

  it('has a header of 24 bytes with UDP tunnel offload, where the kernel has it, and of 12 without', async () => {
    const given: Given = {}
    const [uso, tunnel] = [0b111n << 54n, 0b1111n << 65n]
    const tcp = (1n << 0n) | (1n << 1n) | (1n << 7n) | (1n << 8n) | (1n << 11n) | (1n << 12n)
    try {
      const { backend, driver } = await open(given, { ifname: 'tunnel0' })
      setUpHost('tunnel0')
      const { rx, tx } = driver.pairs[0]!
      let bases: PairBases = { rx: 0, tx: 0 }
      const start = (features: bigint) =>
        backend.start(0, { features, rx: { ...rx.vring, base: bases.rx }, tx: { ...tx.vring, base: bases.tx } })
      const sent = async (header: number): Promise<number> => {
        const before = Number(sysfs('tunnel0', 'statistics/rx_bytes'))
        const offsets = new Uint32Array(1)
        tx.allocate(offsets)
        tx.pool.fill(0, offsets[0], offsets[0]! + header + 60)
        const burst = new Burst(1)
        burst.add(offsets[0]!, header + 60)
        tx.send(burst)
        await tx.drained(AbortSignal.timeout(5000))
        return Number(sysfs('tunnel0', 'statistics/rx_bytes')) - before
      }
      assert.equal(backend.features & uso, since(6, 2) ? uso : 0n)
      assert.equal(backend.features & tunnel, since(6, 17) ? tunnel : 0n)
      start(features)
      assert.equal(await sent(12), 60)
      bases = backend.stop(0)
      if (since(6, 17)) {
        start(features | tcp | uso | tunnel)
        assert.equal(await sent(24), 60)
        const [pair] = backend.inspect().pairs
        assert.deepEqual(pair!.tap, { vnetHdrSz: 24, sndbuf: 0x7fffffff })
        assert.equal(pair!.offloads.length, 7)
        bases = backend.stop(0)
      } else {
        assert.throws(() => start(features | tunnel), {
          code: 'ERR_FEATURE_MISSING',
          message: /GUEST_UDP_TUNNEL_GSO \(65\)/,
        })
      }
      start(features)
      assert.equal(await sent(12), 60)
      const state = backend.inspect()
      assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
      const { fds, worker, ...pair } = state.pairs[0]!
      assert.deepEqual(pair, {
        pair: 0,
        running: true,
        features: {
          bits: '0x130008000',
          names:
            'VIRTIO_NET_F_MRG_RXBUF (15), VIRTIO_RING_F_INDIRECT_DESC (28), VIRTIO_RING_F_EVENT_IDX (29), VIRTIO_F_VERSION_1 (32)',
        },
        bases: null,
        offloads: [],
        attached: true,
        tap: { vnetHdrSz: 12, sndbuf: 0x7fffffff },
        poll_us: 0,
      })
      for (const fd of Object.values(fds!))
        assert.match(readlinkSync(`/proc/self/fd/${fd}`), /vhost-net|net\/tun|eventfd/)
      assert.match(readFileSync(`/proc/${worker!.tid}/comm`, 'utf8'), /^vhost-\d+\n$/)
      backend.pinWorker(0, [0])
      assert.deepEqual(backend.inspect().pairs[0]!.worker, { tid: worker!.tid, cpus: [0] })
      assert.throws(() => backend.pinWorker(0, []), { syscall: 'sched_setaffinity', code: 'EINVAL' })
      assert.throws(() => backend.pinWorker(0, [-1]), { code: 'ERR_OPTION_RANGE' })
      assert.deepEqual(state.regions, [{ guestAddress: 0, size: 4 << 20 }])
      assert.equal(given.memory!.inspect().followers, 1)
      assert.deepEqual(
        given.memory!.inspect().pins.map(({ owner }) => owner),
        ['a driver', ...['rx', 'tx'].flatMap((ring) => RING_PARTS.map((part) => `the ${part} of pair 0 ${ring}`))],
      )
      bases = backend.stop(0)
      assert.deepEqual(backend.inspect().pairs[0]!.bases, bases)
      backend.close()
      const { fds: numbers, worker: thread } = backend.inspect().pairs[0]!
      assert.deepEqual([numbers, thread], [null, null])
    } finally {
      assert.deepEqual(closeAll(given), [])
    }
  })

  it('polls for as long as it was told, running or not, and loses nothing', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs: 2 })
    const { a, b } = nics
    const timeouts = (nic: Nic): number[] =>
      nic.backend.inspect().pairs.flatMap(({ fds }) => {
        const vhost = VhostNet.fromFd(fds!.vhost)
        try {
          return [vhost.getVringBusyloopTimeout(0), vhost.getVringBusyloopTimeout(1)]
        } finally {
          vhost.detach()
        }
      })
    const flows = [a, b].flatMap((from) => [0, 1].map((pair): Flow => ({ from, pair, size: 300, frames: 200 })))
    assert.deepEqual(timeouts(a), [0, 0, 0, 0])
    a.backend.setPollUs(20)
    nics.startAll()
    await nics.transfer(flows)
    b.backend.setPollUs(30)
    await nics.transfer(flows)
    a.stop(1)
    a.start(1)
    assert.deepEqual([timeouts(a), timeouts(b)], [Array(4).fill(20), Array(4).fill(30)])
    await recording((record) => {
      let calls = 0
      record.failWhen(({ name }) => name === 'vhostSetVringBusyloopTimeout' && ++calls === 4)
      assert.throws(() => a.backend.setPollUs(50), { syscall: 'VHOST_SET_VRING_BUSYLOOP_TIMEOUT' })
    })
    const told = a.backend.inspect().pairs.map(({ poll_us }) => poll_us)
    assert.deepEqual([timeouts(a), told], [Array(4).fill(20), [20, 20]])
    a.backend.setPollUs(40, 1)
    assert.deepEqual(timeouts(a), [20, 20, 40, 40])
    assert.throws(() => a.backend.setPollUs(40, 2), { code: 'ERR_OPTION_RANGE' })
    await nics.transfer(flows)
    a.backend.setPollUs(0)
    await nics.transfer(flows)
    assert.deepEqual(timeouts(a), [0, 0, 0, 0])
    nics.assertConserved()
  })

  it('refuses to stop a pair that does not run, and to start one that does', async () => {
    using nics = await TwoNics.open({ features: VERSION_1, queuePairs: 2 })
    const { a } = nics
    assert.throws(() => a.stop(1), stateError('ERR_NOT_ACTIVE'))
    a.start(1)
    assert.throws(() => a.start(1), stateError('ERR_ALREADY_ACTIVE'))
    assert.throws(() => a.stop(0), stateError('ERR_NOT_ACTIVE'))
    assert.deepEqual([a.backend.running(0), a.backend.running(1)], [false, true])
    a.stop(1)
    assert.throws(() => a.stop(1), stateError('ERR_NOT_ACTIVE'))
  })

  describe('after a ring was broken', () => {
    const word = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8)

    function availIndex({ memory }: Nic, { avail }: Vring): number {
      const bytes = new Uint8Array(2)
      memory.read(avail + 2, bytes)
      return new DataView(bytes.buffer).getUint16(0, true)
    }

    /** Makes one more chain available, whose head is not in the ring. */
    function addBadHead(nic: Nic, vring: Vring): void {
      const idx = availIndex(nic, vring)
      nic.memory.write(vring.avail + 4 + 2 * (idx % vring.num), word(vring.num))
      nic.memory.write(vring.avail + 2, word((idx + 1) & 0xffff))
      vring.kick.signal()
    }

    /** Puts a head that is not in the ring in place of the last one that was made available. */
    function spoilNewestHead(nic: Nic, vring: Vring): void {
      const idx = availIndex(nic, vring)
      nic.memory.write(vring.avail + 4 + 2 * ((idx - 1) % vring.num), word(0xffff))
    }

    async function nextFault(nic: Nic): Promise<RingFault> {
      const [fault] = (await once(nic.backend, 'fault', { signal: AbortSignal.timeout(10_000) })) as [RingFault]
      return fault
    }

    async function trafficFlowsAgain(nics: TwoNics): Promise<void> {
      const flows = [nics.a, nics.b].flatMap((from) =>
        from.driver.pairs.map((_, pair): Flow => ({ from, pair, size: 500, frames: 100 })),
      )
      await nics.transfer(flows)
      nics.a.faults.length = 0
      nics.assertConserved()
    }

    for (const pair of [0, 1]) {
      it(`reports the TX ring of pair ${pair}, and sends again after a stop, with a fresh driver`, async () => {
        using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs: 2 })
        nics.startAll()
        await trafficFlowsAgain(nics)
        const reported = nextFault(nics.a)
        addBadHead(nics.a, nics.a.tx(pair).vring)
        const fault = await reported
        assert.deepEqual({ pair: fault.pair, ring: fault.ring }, { pair, ring: 'tx' })
        assert.ok(fault.errors >= 1)
        // The bad head is not taken, so that the base still says what was sent.
        assert.equal(nics.a.stopAll()[pair]!.tx, 100)
        nics.a.renewDriver()
        nics.a.startAll()
        await trafficFlowsAgain(nics)
      })

      it(`reports the RX ring of pair ${pair}, and receives again after a stop, with a fresh driver`, async () => {
        using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queuePairs: 2, queueSize: 16 })
        const { a, b } = nics
        nics.startAll()
        await trafficFlowsAgain(nics)
        const reported = nextFault(a)
        spoilNewestHead(a, a.rx(pair).vring)
        // 15 frames find good buffers, two do not.
        assert.equal(b.sendFrames({ from: b, pair, size: 500, frames: 16 }, 16), 16)
        await drained(b)
        assert.equal(b.sendFrames({ from: b, pair, size: 500, frames: 1 }, 1), 1)
        const fault = await reported
        assert.deepEqual({ pair: fault.pair, ring: fault.ring }, { pair, ring: 'rx' })
        await receive(a, pair, 15)
        a.stopAll()
        a.renewDriver()
        a.startAll()
        // The frames that found no buffer were kept.
        await receive(a, pair, 2)
        await trafficFlowsAgain(nics)
      })
    }
  })
})
