// The same stock guest on our machine and on QEMU's with vhost=on: NICs with the same options, and where they differ.

import assert from 'node:assert/strict'
import { type Comparison, compare } from '../../scripts/compare/compare.ts'
import { describeMachines, type Measurement, measureOurs, measureQemu } from '../../scripts/compare/measure.ts'
import { OPTION_SETS } from '../../scripts/compare/option-sets.ts'

const KERNEL = '6.12'

/** The bits that a guest of this kernel knows of. */
const known = (set: string): bigint => BigInt.asUintN(64, BigInt(set))

describe("a guest's features, on our machine and on QEMU's", () => {
  let ours: Measurement['ours']
  let theirs: Measurement['theirs']
  let comparison: Comparison

  before('boots on both', async () => {
    ours = await measureOurs(KERNEL)
    theirs = await measureQemu(KERNEL)
    comparison = compare({ ...(await describeMachines(KERNEL)), ours, theirs })
  })

  for (const [i, { name }] of OPTION_SETS.entries()) {
    it(`are bit for bit those of our device: ${name}`, () => {
      const { offered, accepted, device, driven } = ours[i]!
      assert.equal(BigInt(offered), known(device.offered))
      assert.equal(BigInt(accepted), known(device.accepted))
      assert.ok(driven, 'the driver refused it')
    })
  }

  it('are offered, all that are accepted, on both', () => {
    for (const { offered, accepted } of [...ours, ...theirs]) assert.equal(BigInt(accepted) & ~BigInt(offered), 0n)
  })

  it('differ nowhere without a reason', () => {
    assert.deepEqual(comparison.unexplained, [])
  })

  it('differ wherever there is a reason', () => {
    assert.deepEqual(comparison.stale, [])
  })
})
