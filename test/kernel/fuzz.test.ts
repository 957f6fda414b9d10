// Guests drawn by chance against the device on the real vhost-net: a short form of `npm run fuzz`.

import assert from 'node:assert/strict'
import { type FuzzReport, runFuzzer } from '../support/fuzz/run.ts'

const SEED = 28
const SECONDS = 12
/** A bug that was planted has to be found by then. */
const MOST_SECONDS = 60

const why = ({ failed }: FuzzReport): string => [failed?.why, ...(failed?.operations ?? [])].join('\n')

describe('a device under guests drawn by chance', () => {
  it('gives back what was kicked or says why it needs a reset, and works after that', async () => {
    const report = await runFuzzer({ seed: SEED, seconds: SECONDS })
    assert.equal(report.failed, null, why(report))
    assert.deepEqual(report.missed, [])
    assert.ok(report.episodes > 0)
  })

  // Later acts depend on how far the device has come by then.
  const upToKick = ({ shown = [] }: FuzzReport): string[] =>
    shown.slice(
      0,
      shown.findIndex((act) => act.startsWith('kick')),
    )

  it('is done the same to by the same seed, an episode by itself, up to the first kick', async () => {
    const episode = 3
    const [first, again] = [
      await runFuzzer({ seed: SEED, seconds: 0, episode }),
      await runFuzzer({ seed: SEED, seconds: 0, episode }),
    ]
    assert.equal(first.failed, null, why(first))
    assert.ok(upToKick(first).length > 50, `${upToKick(first).length} acts`)
    assert.deepEqual(upToKick(again), upToKick(first))
    const other = await runFuzzer({ seed: SEED + 1, seconds: 0, episode })
    assert.notDeepEqual(upToKick(other), upToKick(first))
  })

  for (const [plant, found] of [
    ['bounds', /^queue \d(:| is enabled, and ERR_GPA_RANGE)/],
    ['command', /^queue \d: entry \d+ was used, which it must not be$/],
  ] as const) {
    it(`is found to be at fault where that was planted: ${plant}`, async () => {
      const report = await runFuzzer({ seed: SEED, seconds: MOST_SECONDS, plant })
      assert.match(report.failed?.why ?? 'nothing was found', found)
      assert.ok(report.failed!.operations.length > 0)
    })
  }
})
