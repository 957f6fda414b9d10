// Interrupts of a device over PCI amid traffic, while its guest masks their vectors, lets them go and rewrites their messages:
// none is lost; and one that is, is noticed.

import assert from 'node:assert/strict'
import { FaultyInterrupts } from '../support/faulty-interrupts.ts'
import { InterruptStorm } from '../support/interrupt-storm.ts'
import { diffSoon, resources } from '../support/resources.ts'

const FLIPS = 10_000
const REWRITES = 1000
/** Enough for some to be held masked until they are pending, and for each to have another message. */
const FEW = { flips: 500, rewrites: 50 }
/** A vector whose message stays: that of the third queue. */
const STUCK = 3

describe('a storm of masks and messages over the interrupts of four queue pairs', () => {
  let storm: InterruptStorm | undefined
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
  })

  afterEach('nothing is left', async () => {
    await storm?.close()
    storm = undefined
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  it(`loses none in ${FLIPS} flips with ${REWRITES} rewrites, and brings none of a masked vector or by an old message`, async () => {
    storm = await InterruptStorm.open()
    const report = await storm.run({
      flips: FLIPS,
      rewrites: REWRITES,
      progress: ({ flips, seconds }) => console.log(`      ${flips} flips in ${seconds.toFixed()} s`),
    })
    const { lost, whileMasked, misdirected, frames, interrupts, spurious, seconds } = report
    assert.deepEqual({ lost, whileMasked, misdirected }, { lost: [], whileMasked: 0, misdirected: 0 })
    assert.deepEqual([report.flips, report.rewrites], [FLIPS, REWRITES])
    assert.equal(frames.answered, frames.sent)
    for (const [pair, { rx, tx }] of interrupts.entries()) assert.ok(rx > 0 && tx > 0, `pair ${pair}: ${rx} and ${tx}`)
    const sum = interrupts.reduce((total, { rx, tx }) => total + rx + tx, 0)
    console.log(
      `      ${frames.sent} frames each way, ${sum} interrupts, ${spurious} of them spurious, in ${seconds.toFixed()} s`,
    )
  }).timeout(300_000)

  const openFaulty = async () => {
    let faulty: FaultyInterrupts | undefined
    const opened = await InterruptStorm.open((sound) => {
      faulty = new FaultyInterrupts(sound)
      return faulty
    })
    storm = opened
    return { opened, faulty: faulty! }
  }

  it('is told from one that loses one of them: that is the one it reports', async () => {
    const { opened, faulty } = await openFaulty()
    const forgotten: number[] = []
    faulty.forgets = (vector) => forgotten.length === 0 && opened.owes(vector) && forgotten.push(vector) > 0
    const { lost, whileMasked, misdirected, frames } = await opened.run(FEW)
    assert.equal(forgotten.length, 1)
    assert.deepEqual(
      lost.map(({ entry, pending }) => ({ entry, pending })),
      [{ entry: forgotten[0], pending: false }],
    )
    assert.deepEqual({ whileMasked, misdirected }, { whileMasked: 0, misdirected: 0 })
    assert.equal(frames.answered, frames.sent)
  }).timeout(120_000)

  it('is told from one with vectors that are not masked when they should be', async () => {
    const { opened, faulty } = await openFaulty()
    faulty.ignoresMask = () => true
    const { lost, whileMasked } = await opened.run({ flips: 200, rewrites: 20 })
    assert.deepEqual(lost, [])
    assert.ok(whileMasked > 0)
  }).timeout(120_000)

  it('is told from one with a message that stays', async () => {
    const { opened, faulty } = await openFaulty()
    faulty.keepsMessage = (vector) => vector === STUCK
    const { lost, misdirected } = await opened.run(FEW)
    assert.deepEqual(lost, [])
    assert.ok(misdirected > 0)
  }).timeout(120_000)
})
