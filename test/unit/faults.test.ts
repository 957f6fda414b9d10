// What `npm run faults` tells of each thing that a guest wrote, and when it has failed.

import assert from 'node:assert/strict'
import { type FaultRow, faultEnd, faultHead, faultLine, isInOrder, MOST_CPU_MS } from '../../scripts/faults/table.ts'
import { RING_CASES } from '../support/ring-faults.ts'

const rows: FaultRow[] = RING_CASES.map(({ name, ring, outcome }) => ({
  transport: 'mmio',
  name,
  ring,
  expected: outcome,
  outcome,
  cpuMs: MOST_CPU_MS,
  again: 'works',
}))
const [row] = rows as [FaultRow]

describe('the result of a guest that writes what it should not', () => {
  it('is in order where each became what it is to be, soon enough, and frames passed after it', () => {
    assert.ok(rows.every(isInOrder))
    for (const bad of [{ outcome: 'nothing' }, { cpuMs: MOST_CPU_MS + 1 }, { again: 'a frame: not within 5 s' }]) {
      assert.equal(isInOrder({ ...row, ...bad }), false)
      assert.match(faultLine({ ...row, ...bad }), /<<<$/)
    }
  })

  it('fits into 100 columns', () => {
    for (const line of [...faultHead(), ...rows.map(faultLine)]) assert.ok(line.length <= 100, line)
  })

  it('counts those that are in order, and the most that a worker ran', () => {
    const all = [row, { ...row, outcome: 'nothing', cpuMs: 20 }]
    assert.equal(faultEnd(all), `1 of 2 as they are to be; ${MOST_CPU_MS} ms of the worker at most`)
  })
})
