// Everything that a guest can write into a ring, on the kernel's vhost-net: each buffer comes back, or the device needs a
// reset and says why, before its worker has had much time; and after a reset it works.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { DeviceFault } from '../../lib/virtio/index.ts'
import { sendFrames } from '../support/host-frames.ts'
import { MAC, RawNic } from '../support/raw-nic.ts'
import { RING_CASES } from '../support/ring-faults.ts'
import { soon } from '../support/soon.ts'
import { ip } from '../support/tuntap.ts'

/** Of the worker, until a fault is found: twice what it may take on a processor that is not emulated, and shared. */
const MOST_CPU_MS = 1000
/** Of the clock, which in a lab that shares its processors runs faster than the worker. */
const SECONDS = 10

describe('a ring on vhost-net', () => {
  let raw: RawNic

  before(async () => {
    raw = await RawNic.open('faults0')
  })

  after(() => raw[Symbol.dispose]())

  const works = async (): Promise<void> => {
    raw.up()
    const { sent } = raw
    raw.offer('tx')
    raw.offer('rx')
    await soon('a frame of the guest', () => raw.rings.tx.usedIdx === 1)
    assert.equal(raw.sent, sent + 1)
    await sendFrames('faults0', MAC)
    await soon('a frame for the guest', () => raw.rings.rx.usedIdx === 1)
  }

  const faultOf = async (): Promise<DeviceFault> => {
    const signal = AbortSignal.timeout(SECONDS * 1000)
    const [fault] = (await once(raw.nic, 'fault', { signal })) as [DeviceFault]
    return fault
  }

  for (const { name, ring, outcome, spoil } of RING_CASES) {
    const becomes = outcome === 'returned' ? 'is returned' : `is found: ${outcome}`
    it(`of ${ring} with ${name} ${becomes}; and it works after a reset`, async () => {
      raw.up()
      const before = raw.cpuMs
      const victim = raw.victim(ring)
      const fault = outcome === 'returned' ? undefined : faultOf()
      spoil(victim)
      raw.kick(ring)
      // What is wrong with room to receive into is found when something is received.
      if (ring === 'rx') await sendFrames('faults0', MAC)
      if (fault === undefined) {
        await soon('what was offered', () => victim.ring.usedIdx === victim.ring.offered)
        assert.deepEqual(raw.faults, [])
      } else {
        const { cause, queue, message } = await fault
        assert.deepEqual({ cause, queue }, { cause: outcome, queue: ring === 'rx' ? 0 : 1 }, message)
        assert.equal(raw.nic.backend.running(0), false)
        assert.deepEqual(raw.nic.inspect().status.at(-1), 'NEEDS_RESET')
      }
      const took = raw.cpuMs - before
      assert.ok(took <= MOST_CPU_MS, `the worker ran for ${took} ms`)
      await works()
    })
  }

  it('in order is never suspected, whatever waits there without a kick', async () => {
    raw.up()
    const { ring } = raw.victim('tx')
    ring.chain([{ address: raw.victim('tx').pool, length: 72 }])
    ring.offer(0)
    await new Promise((resolve) => setTimeout(resolve, 2500))
    assert.deepEqual([raw.faults, ring.usedIdx], [[], 0])
    raw.kick('tx')
    await soon('what was offered', () => ring.usedIdx === 1)
  })

  it('whose tap was deleted loses its link, and is no fault of the guest', async () => {
    using other = await RawNic.open('faults1')
    other.up()
    other.offer('tx')
    await soon('a frame of the guest', () => other.rings.tx.usedIdx === 1)
    ip('link', 'del', 'faults1')
    other.offer('tx')
    await soon('the end of the link', () => !other.nic.backend.running(0))
    const { fault, link, status } = other.nic.inspect()
    assert.deepEqual({ fault, up: link.up }, { fault: null, up: false })
    assert.ok(!status.includes('NEEDS_RESET'))
  })
})
