// Which workers are said to be stuck, and which are busy with something else: this thread is the worker.

import assert from 'node:assert/strict'
import { RingHealth, type RingHealthOptions } from '../../lib/backend/vhost-net/health.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import type { Vring } from '../../lib/virtio/vring.ts'
import { burn, thisThread } from '../support/busy-thread.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { RING_CASES, type RingCase } from '../support/ring-faults.ts'

const END = 0x40000
const caseOf = (outcome: RingCase['outcome']): RingCase => RING_CASES.find((each) => each.outcome === outcome)!

/** A transmit ring with something in it, whose worker is this thread. */
class Patient {
  readonly memory = GuestMemory.allocate({ size: END })
  readonly ring: GuestRing
  readonly found: string[] = []
  readonly health: RingHealth

  constructor(spoil: RingCase['spoil'], options: Partial<RingHealthOptions> = {}) {
    const bytes = this.memory.window(0, END).buffer as ArrayBuffer
    this.ring = new GuestRing(bytes, 0, 64)
    this.health = new RingHealth({
      ring: 'tx',
      memory: this.memory,
      worker: thisThread,
      base: () => 0,
      used: () => this.ring.usedIdx,
      othersUsed: () => 0,
      gone: () => false,
      found: (finding) => this.found.push(finding === 'gone' ? finding : finding.cause),
      ...options,
    })
    // Only where it lies is looked at.
    const { num, desc, avail, used } = this.ring
    this.health.begin({ num, desc, avail, used } as Vring, featureSet(15, 28, 32))
    spoil({ ring: this.ring, pool: 0x20000, table: 0x10000, end: END, bytes: new DataView(bytes) })
  }

  [Symbol.dispose](): void {
    this.health.close()
    this.memory.close()
  }
}

describe('the health of a ring to transmit on', () => {
  for (const cause of ['short-header', 'header-beyond-frame'] as const) {
    it(`is found to be ${cause} before the worker had 500 ms, without a question to the kernel`, async () => {
      using patient = new Patient(caseOf(cause).spoil, { base: () => assert.fail('the kernel was asked') })
      const ran = await burn(500, () => patient.found.length > 0)
      assert.deepEqual(patient.found, [cause], `after ${ran} ms`)
    })
  }

  it('is found where the kernel says that the worker stands, behind buffers that it took and did not return', async () => {
    const spoil: RingCase['spoil'] = ({ ring, pool }) => {
      ring.describe(0, { address: pool, length: 72 })
      ring.describe(1, { address: pool, length: 3 })
      ring.offer(0, 1)
    }
    using patient = new Patient(spoil, { base: () => 1 })
    await burn(500, () => patient.found.length > 0)
    assert.deepEqual(patient.found, ['short-header'])
  })

  it('is not judged by what the guest may have got back meanwhile', async () => {
    let asked = 0
    using patient = new Patient(caseOf('short-header').spoil, { used: () => asked++ % 2 })
    await burn(2000, () => asked > 10)
    assert.ok(asked > 10)
    assert.deepEqual(patient.found, [])
  })

  it('is good where a good frame waits and the worker is busy with what it receives', async () => {
    let [examined, received] = [0, 0]
    const base = (): number => {
      examined++
      return 0
    }
    using patient = new Patient(caseOf('returned').spoil, { base, othersUsed: () => ++received })
    await burn(3000, () => examined > 5)
    assert.ok(examined > 5)
    assert.deepEqual(patient.found, [])
  })

  it('is bad where the worker has 400 ms and does nothing on either ring, told once', async () => {
    using patient = new Patient(caseOf('returned').spoil)
    const ran = await burn(3000, () => patient.found.length > 0)
    assert.ok(ran >= 400, `found after ${ran} ms`)
    await burn(1000, () => patient.found.length > 1)
    assert.deepEqual(patient.found, ['no-progress'])
  })
})
