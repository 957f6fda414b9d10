// What `npm run stress` tells of a storm over interrupts, and when it has failed.

import assert from 'node:assert/strict'
import { isInOrder, stressTable } from '../../scripts/stress/table.ts'
import type { StormReport } from '../support/interrupt-storm.ts'

const MACHINE = { kernel: '6.12.0', lab: true, cpu: 'A CPU', cpus: 1 }
const GOOD: StormReport = {
  flips: 1_000_000,
  byFunction: 76_923,
  held: 18_867,
  rewrites: 100_000,
  frames: { sent: 3_000_000, answered: 3_000_000 },
  interrupts: [
    { rx: 250_000, tx: 240_000 },
    { rx: 250_001, tx: 240_001 },
  ],
  lost: [],
  spurious: 7,
  whileMasked: 0,
  misdirected: 0,
  seconds: 1234.56,
}
const LOST = {
  queue: 'pair 1 rx',
  entry: 3,
  target: { cpu: 1, vector: 0x51 },
  usedIdx: 8,
  usedEvent: 7,
  pending: false,
}

describe('the result of a storm over interrupts', () => {
  it('is in order where none was lost and none came that must not, spurious ones or not', () => {
    assert.equal(isInOrder(GOOD), true)
    for (const bad of [{ lost: [LOST] }, { whileMasked: 1 }, { misdirected: 1 }]) {
      assert.equal(isInOrder({ ...GOOD, ...bad }), false)
    }
  })

  it('is a table, with a line for each pair and the interrupts that were lost', () => {
    assert.deepEqual(stressTable({ ...GOOD, lost: [LOST] }, MACHINE), [
      'flips                   1,000,000, 76,923 of them by the function mask',
      '  with one pending      18,867, waited for',
      'rewrites                100,000',
      'frames                  3,000,000 sent, 3,000,000 received',
      'interrupts, pair 0      rx 250,000  tx 240,000',
      'interrupts, pair 1      rx 250,001  tx 240,001',
      'lost                    1',
      'of a masked vector      0',
      'by a replaced message   0',
      'spurious                7',
      'duration                1234.6 s',
      'on                      Linux 6.12.0, 1 × A CPU, emulated',
      `LOST  ${JSON.stringify(LOST)}`,
    ])
  })
})
