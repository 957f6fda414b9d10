// What a soak sees of a frame that is not as it was sent, and of sums that do not hold; and what `npm run soak` tells of it.

import assert from 'node:assert/strict'
import { duration, isInOrder, soakEnd, soakHead, soakLine } from '../../scripts/soak/table.ts'
import { SoakFlow } from '../support/soak-flow.ts'
import { frameSize, pairOf, SoakFrames } from '../support/soak-frames.ts'
import { type Checkpoint, differences, type SoakSums } from '../support/soak-sums.ts'

const FRAMES = new SoakFrames({ source: 1, pair: 3 })

/** A frame as it arrives: its virtio header says that it lies in one buffer. */
function arrived(sequence: number): { words: Int32Array; length: number } {
  const words = new Int32Array(512)
  const length = FRAMES.write(words, 0, sequence)
  words[2] = 1 << 16
  return { words, length }
}

describe('a frame of a soak', () => {
  it('says which it is, whatever its size', () => {
    const sizes = new Set<number>()
    for (let sequence = 0; sequence < 64; sequence++) {
      const { words, length } = arrived(sequence)
      assert.equal(length, 12 + frameSize(sequence))
      assert.equal(FRAMES.read(words, 0, length), sequence)
      assert.equal(pairOf(words, 0), 3)
      sizes.add(length)
    }
    assert.ok(sizes.size > 2)
    const { words, length } = arrived(2 ** 31 + 7)
    assert.equal(FRAMES.read(words, 0, length), 2 ** 31 + 7)
  })

  it('is refused with any bit of it changed, or another length', () => {
    for (const sequence of [0, 7]) {
      const { words, length } = arrived(sequence)
      for (let bit = 0; bit < length * 8; bit++) {
        words[bit >> 5]! ^= 1 << (bit & 31)
        assert.equal(FRAMES.read(words, 0, length), undefined, `bit ${bit}`)
        words[bit >> 5]! ^= 1 << (bit & 31)
      }
      for (const other of [length - 4, length + 4]) assert.equal(FRAMES.read(words, 0, other), undefined)
      assert.equal(FRAMES.read(words, 0, length), sequence)
    }
  })

  it('is none of another flow', () => {
    const { words, length } = arrived(1)
    for (const flow of [
      { source: 0, pair: 3 },
      { source: 1, pair: 2 },
    ]) {
      assert.equal(new SoakFrames(flow).read(words, 0, length), undefined)
    }
  })
})

describe('a flow of a soak', () => {
  const words = new Int32Array(512)
  const come = (flow: SoakFlow, sequence: number): boolean => {
    const length = FRAMES.write(words, 0, sequence)
    words[2] = 1 << 16
    return flow.take(words, 0, length)
  }
  const counts = ({ checked, missing, late, doubled }: SoakFlow) => ({ checked, missing, late, doubled })

  it('knows which frames are missing, came late, came twice, and were never sent', () => {
    const flow = new SoakFlow(1, 3)
    flow.sent = 200_000
    for (const sequence of [0, 1, 4]) assert.ok(come(flow, sequence))
    assert.deepEqual(counts(flow), { checked: 3, missing: 2, late: 0, doubled: 0 })
    assert.ok(come(flow, 3))
    assert.deepEqual(counts(flow), { checked: 4, missing: 1, late: 1, doubled: 0 })
    for (const sequence of [3, 4, 0]) assert.ok(come(flow, sequence))
    assert.deepEqual(counts(flow), { checked: 4, missing: 1, late: 1, doubled: 3 })
    assert.ok(come(flow, 4 + 2 ** 16))
    assert.ok(come(flow, 5))
    assert.deepEqual(counts(flow), { checked: 6, missing: 2 ** 16 - 1, late: 2, doubled: 3 })
    assert.equal(come(flow, 200_000), false)
    flow.settle()
    assert.deepEqual(counts(flow), { checked: 6, missing: 200_000 - 6, late: 2, doubled: 3 })
    assert.ok(come(flow, 199_999))
    assert.deepEqual(counts(flow), { checked: 7, missing: 200_000 - 7, late: 3, doubled: 3 })
  })
})

const GOOD: SoakSums = {
  sent: 1000,
  available: 1000,
  used: 1000,
  rx_packets: 998,
  rx_refused: 2,
  tx_packets: 990,
  tx_dropped: 8,
  received: 990,
  checked: 990,
  missing: 10,
  late: 0,
  doubled: 0,
}

describe('the sums of a soak', () => {
  it('are exact where each frame is received or counted as dropped', () => {
    assert.deepEqual(differences(GOOD), [])
  })

  it('are not with any of them one more or less', () => {
    for (const name of Object.keys(GOOD) as (keyof SoakSums)[]) {
      for (const by of [-1, 1]) {
        const found = differences({ ...GOOD, [name]: GOOD[name] + by })
        assert.ok(found.length > 0, `${name} ${by}`)
      }
    }
    assert.deepEqual(differences({ ...GOOD, checked: 989 }), ['received = checked: 990, 989'])
  })
})

describe('the result of a soak', () => {
  const checkpoint: Checkpoint = {
    packets: 100_000_000,
    seconds: 3723,
    directions: [GOOD, { ...GOOD, checked: 49_000_000, missing: 1_000_000 }],
    rss: 150 * 2 ** 20,
    wrong: [],
  }

  it('is in order where every checkpoint is, and there was one', () => {
    assert.equal(isInOrder([checkpoint]), true)
    assert.equal(isInOrder([]), false)
    assert.equal(isInOrder([checkpoint, { ...checkpoint, wrong: ['sent = available: 1, 2'] }, checkpoint]), false)
  })

  it('is a table of 100 columns at most', () => {
    const lines = [
      ...soakHead(),
      soakLine(checkpoint),
      soakLine({ ...checkpoint, wrong: ['soak0 to soak1: sent = available: 1, 2'] }),
      ...soakEnd([checkpoint], { pairs: 4, kernel: '6.12.0', lab: true, cpu: 'A CPU', cpus: 2 }),
    ].flatMap((text) => text.split('\n'))
    assert.deepEqual(lines, [
      '                       A to B, frames          B to A, frames',
      '         sent     received    dropped     received    dropped a second RSS MiB     time',
      '  100,000,000          990         10   49,000,000  1,000,000   26,860     150  1:02:03  exact',
      '  100,000,000          990         10   49,000,000  1,000,000   26,860     150  1:02:03  WRONG',
      '  soak0 to soak1: sent = available: 1, 2',
      '1 of 1 checkpoints exact, 4 queue pairs on each side',
      'on Linux 6.12.0, 2 × A CPU, emulated',
    ])
    assert.ok(lines.every((text) => text.length <= 100))
  })

  it('has times as hours, minutes and seconds', () => {
    assert.deepEqual([0, 59.6, 3600].map(duration), ['0:00', '1:00', '1:00:00'])
  })
})
