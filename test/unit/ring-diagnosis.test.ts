// What is found wrong with a ring that the kernel gave up: each thing that a guest can write, and rings in order.

import assert from 'node:assert/strict'
import type { RingName } from '../../lib/backend/net-backend.ts'
import { diagnose, type PatientRing } from '../../lib/backend/vhost-net/diagnosis.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { RING_CASES, type Victim } from '../support/ring-faults.ts'

const END = 0x40000
const NUM = 64

function patient(ring: RingName, spoil: (victim: Victim) => void, features = featureSet(15, 28, 32)): PatientRing {
  const buffer = new ArrayBuffer(END)
  const guest = new GuestRing(buffer, 0, NUM)
  spoil({ ring: guest, pool: 0x20000, table: 0x10000, end: END, bytes: new DataView(buffer) })
  // Only where they lie is looked at.
  const vring = { num: NUM, desc: guest.desc, avail: guest.avail, used: guest.used } as PatientRing['vring']
  return { ring, memory: new BufferMemory(buffer), vring, features, base: 0 }
}

describe('a diagnosis of a ring', () => {
  for (const { name, ring, outcome, spoil } of RING_CASES) {
    // What the kernel takes though the specification forbids it is no fault, but found where there is another.
    if (name === 'an indirect descriptor with another behind it') continue
    const found = outcome === 'returned' ? 'nothing' : outcome
    it(`finds ${found} where the ${ring} ring has ${name}`, () => {
      const diagnosis = diagnose(patient(ring, spoil))
      assert.equal(diagnosis?.cause, outcome === 'returned' ? undefined : outcome, diagnosis?.message)
    })
  }

  it('finds nothing in a ring that is empty, wherever it stands', () => {
    for (const base of [0, 1, 0xffff]) {
      const made = patient('tx', ({ ring }) => {
        ring.availIdx = base
      })
      new DataView((made.memory as BufferMemory).window(0, END).buffer).setUint16(made.vring.used + 2, base, true)
      assert.equal(diagnose({ ...made, base }), undefined)
    }
  })

  it('finds what the worker took and did not return', () => {
    const made = patient('tx', ({ ring, pool }) => {
      ring.describe(3, { address: pool, length: 100 })
      ring.describe(4, { address: pool, length: 0 })
      ring.describe(5, { address: pool, length: 100 })
      ring.offer(3, 4, 5)
    })
    const diagnosis = diagnose({ ...made, base: 3 })
    assert.equal(diagnosis?.cause, 'empty-buffer')
    assert.match(diagnosis?.message ?? '', /^entry 1 of the tx ring \(head 4\): /)
  })

  it('finds an indirect table where none was agreed on', () => {
    const spoil = RING_CASES.find(({ name }) => name === 'a valid indirect table')!.spoil
    assert.equal(diagnose(patient('tx', spoil, featureSet(15, 32)))?.cause, 'indirect-not-agreed')
  })

  it('counts a header of 24 bytes where tunnels are agreed on', () => {
    const spoil = RING_CASES.find(({ name }) => name === 'a header without a frame')!.spoil
    assert.equal(diagnose(patient('tx', spoil, featureSet(15, 32, 67)))?.cause, 'short-header')
  })
})
