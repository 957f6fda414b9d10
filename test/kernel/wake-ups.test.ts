// While packets move this process's event loop sleeps, however many there are.

import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { ALL_RING_FEATURES, type Nic, TwoNics } from '../support/two-nics.ts'

const FRAMES = 1_000_000

/**
 * Turns of the event loop that V8 may take meanwhile for itself, for finished compilations and its collector's timers:
 * some tens in ten seconds. A call for every ring's worth of frames would be thousands.
 */
const TURNS = 500

const turns = (): number => performance.nodeTiming.uvMetricsInfo.loopCount

function send(nic: Nic, frames: number): void {
  assert.equal(nic.sendFrames({ from: nic, pair: 0, kind: 'raw', size: 60, frames }, frames), frames)
}

describe('the event loop', function () {
  this.timeout(300_000)

  it(`sleeps while ${FRAMES} frames go from one NIC to another`, async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES, queueSize: 256 })
    const { a, b } = nics
    nics.startAll()
    const [tx, rx] = [a.tx(0), b.rx(0)]
    const ended = new AbortController()
    const receiving = rx.discard({ frames: Number.MAX_SAFE_INTEGER, signal: ended.signal })
    receiving.catch(() => undefined)
    send(a, 64)

    const before = turns()
    await tx.repeat({ frames: FRAMES })
    const taken = turns() - before

    await tx.drained()
    ended.abort()
    await assert.rejects(receiving, { name: 'AbortError' })
    assert.ok(taken <= TURNS, `the event loop went round ${taken} times`)
    assert.equal(tx.counters().used, FRAMES + 64)
    assert.equal(a.balance().tapReceived, FRAMES + 64)
    assert.ok(rx.counters().frames > 0)
    assert.deepEqual([a.faults, b.faults], [[], []])
  })

  it('goes round far more often where this thread itself sends as many, which the count of its turns shows', async () => {
    using nics = await TwoNics.open({ features: ALL_RING_FEATURES })
    nics.startAll()
    const flow = { from: nics.a, pair: 0, kind: 'raw', size: 60, frames: FRAMES } as const
    const before = turns()
    for (let sent = 0; sent < FRAMES && turns() - before <= TURNS; ) {
      sent += nics.a.sendFrames(flow, 64)
      await nics.a.tx(0).drained()
    }
    assert.ok(turns() - before > TURNS)
  })
})
