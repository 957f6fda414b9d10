// A short soak (`npm run soak` is the long one): every frame that a driver sends is received by the other one, or counted as
// dropped by a tap.

import assert from 'node:assert/strict'
import { soak } from '../support/soak.ts'
import { SoakTraffic } from '../support/soak-traffic.ts'

const PACKETS = Number(process.env.SOAK_PACKETS ?? 100_000)
const CHECKPOINTS = 4

describe('two NICs of 4 pairs in traffic', () => {
  it(`account for each of ${PACKETS} frames, in order and unchanged, at ${CHECKPOINTS} checkpoints`, async () => {
    await using traffic = await SoakTraffic.open(4)
    const checkpoints = await soak(traffic, { packets: PACKETS, checkpoints: CHECKPOINTS })
    assert.deepEqual(
      checkpoints.map(({ wrong }) => wrong),
      checkpoints.map(() => []),
    )
    assert.equal(checkpoints.length, CHECKPOINTS)
    const { directions, seconds } = checkpoints.at(-1)!
    assert.ok(directions.every(({ sent, checked }) => sent > PACKETS / 4 && checked > sent / 4))
    const dropped = directions.map(({ tx_dropped }) => tx_dropped)
    assert.ok(dropped.every((frames) => frames > 0))
    console.log(`      ${(PACKETS / seconds).toFixed()} frames a second; dropped by full taps, and counted: ${dropped}`)
  })
})
