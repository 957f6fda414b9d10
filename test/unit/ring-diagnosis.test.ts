// What is found wrong with a ring that the kernel gave up: each thing that a guest can write, and rings in order.

import assert from 'node:assert/strict'
import fc from 'fast-check'
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

  it('finds nothing where the worker went on meanwhile, whatever the ring had before', () => {
    for (const base of [0, 0xffff]) {
      const made = patient('tx', ({ ring, pool }) => {
        ring.describe(0, { address: pool, length: 100 })
        ring.describe(1, { address: pool, length: 3 })
        for (let slot = 0; slot < NUM; slot++) ring.offer(slot === base % NUM ? 0 : 1)
        ring.availIdx = base + 1
        ring.usedIdx = base + 1
      })
      assert.equal(diagnose({ ...made, base })?.message, undefined)
    }
  })

  it('finds an indirect table where none was agreed on', () => {
    const spoil = RING_CASES.find(({ name }) => name === 'a valid indirect table')!.spoil
    assert.equal(diagnose(patient('tx', spoil, featureSet(15, 32)))?.cause, 'indirect-not-agreed')
  })

  it('counts a header of 24 bytes where tunnels are agreed on', () => {
    const spoil = RING_CASES.find(({ name }) => name === 'a header without a frame')!.spoil
    assert.equal(diagnose(patient('tx', spoil, featureSet(15, 32, 67)))?.cause, 'short-header')
  })

  const buffer = fc.record({ address: fc.constantFrom(0x20000, 0x2f000), length: fc.integer({ min: 12, max: 0x800 }) })
  const chain = fc.array(buffer, { minLength: 1, maxLength: 4 })
  const base = fc.oneof(fc.nat(3 * NUM), fc.integer({ min: 0xffff - NUM, max: 0xffff }))
  const names = fc.constantFrom<RingName>('rx', 'tx')

  /** As if the worker had returned all before `from`, and the driver offered what it did from there on. */
  const standing = (made: PatientRing, from: number, offered: number): PatientRing => {
    const bytes = new DataView((made.memory as BufferMemory).window(0, END).buffer)
    bytes.setUint16(made.vring.used + 2, from & 0xffff, true)
    bytes.setUint16(made.vring.avail + 2, (from + offered) & 0xffff, true)
    return { ...made, base: from & 0xffff }
  }

  it('finds nothing in a ring in order, whatever it has and wherever it stands', () => {
    fc.assert(
      fc.property(names, base, fc.array(chain, { maxLength: 12 }), fc.boolean(), (ring, from, chains, indirect) => {
        const made = patient(ring, (victim) => {
          victim.ring.offered = from
          for (const [i, buffers] of chains.entries()) {
            const all = buffers.map((each) => ({ ...each, deviceWrites: ring === 'rx' }))
            if (indirect) victim.ring.indirect(all, victim.table + 64 * i, 4 * i)
            else victim.ring.chain(all, 4 * i)
            victim.ring.offer(4 * i)
          }
        })
        assert.equal(diagnose(standing(made, from, chains.length)), undefined)
      }),
    )
  })

  it('names a rule that is broken or none, whatever a guest has written where the ring lies', () => {
    const causes = new Set<string>()
    const word = fc.tuple(fc.nat(0x360), fc.oneof(fc.constantFrom(0, 1, 2, 4, 16, 63, 64, 0xffff), fc.nat(0xffff)))
    fc.assert(
      fc.property(names, base, fc.nat(NUM), fc.array(word, { maxLength: 12 }), (ring, from, offered, words) => {
        const made = patient(ring, ({ bytes, pool, ring: victim }) => {
          for (let i = 0; i < NUM; i++) {
            victim.describe(i, { address: pool, length: 64, flags: ring === 'rx' ? 2 : 0 })
            victim.offer(i)
          }
          for (const [at, value] of words) bytes.setUint16(2 * at, value, true)
        })
        const diagnosis = diagnose(
          words.length % 2 === 0 ? standing(made, from, offered) : { ...made, base: from & 0xffff },
        )
        causes.add(diagnosis?.cause ?? 'none')
        if (diagnosis !== undefined) assert.match(diagnosis.message, /^(entry \d+ of the|the available index is) /)
      }),
      { numRuns: 10_000 },
    )
    for (const cause of ['none', 'avail-index', 'head-out-of-range', 'outside-memory']) {
      assert.ok(causes.has(cause), `never found: ${cause} among ${[...causes].join()}`)
    }
  })
})
