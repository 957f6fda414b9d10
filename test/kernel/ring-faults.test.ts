// Everything that a guest can write into a ring, on the kernel's vhost-net: each buffer comes back, or the device needs a
// reset and says why, before its worker has had much time; and after a reset it works.

import assert from 'node:assert/strict'
import { RawNic } from '../support/raw-nic.ts'
import { RING_CASES } from '../support/ring-faults.ts'
import { outcomeOf, worksAgain } from '../support/ring-outcome.ts'
import { soon } from '../support/soon.ts'
import { ip } from '../support/tuntap.ts'

/** Of the worker, until a fault is found; `npm run faults` asks for a quarter, on a machine that does nothing else. */
const MOST_CPU_MS = 2000

for (const transport of ['mmio', 'pci'] as const) {
  describe(`a ring on vhost-net, over ${transport}`, () => {
    let raw: RawNic

    before(async () => {
      raw = await RawNic.open('faults0', transport)
    })

    after(() => raw[Symbol.dispose]())

    for (const ringCase of RING_CASES) {
      const { name, ring, outcome } = ringCase
      const becomes = outcome === 'returned' ? 'is returned' : `is found: ${outcome}`
      it(`of ${ring} with ${name} ${becomes}; and it works after a reset`, async () => {
        const found = await outcomeOf(raw, ringCase)
        const queue = outcome === 'returned' ? null : ring === 'rx' ? 0 : 1
        assert.deepEqual({ outcome: found.outcome, queue: found.queue }, { outcome, queue }, found.message ?? '')
        assert.ok(found.cpuMs <= MOST_CPU_MS, `the worker ran for ${found.cpuMs} ms`)
        assert.equal(raw.nic.backend.running(0), outcome === 'returned')
        assert.equal(raw.nic.inspect().status.at(-1) === 'NEEDS_RESET', outcome !== 'returned')
        await worksAgain(raw)
      })
    }
  })
}

describe('a ring on vhost-net', () => {
  it('whose tap was deleted loses its link, and is no fault of the guest', async () => {
    using raw = await RawNic.open('faults1')
    raw.up()
    raw.offer('tx')
    await soon('a frame of the guest', () => raw.rings.tx.usedIdx === 1)
    ip('link', 'del', 'faults1')
    raw.offer('tx')
    await soon('the end of the link', () => !raw.nic.backend.running(0))
    const { fault, link, status } = raw.nic.inspect()
    assert.deepEqual({ fault, up: link.up }, { fault: null, up: false })
    assert.ok(!status.includes('NEEDS_RESET'))
  })
})
