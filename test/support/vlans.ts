// What must pass between ports of one switch that are in VLANs, and what must not.

import assert from 'node:assert/strict'
import type { PluggedNic } from './plugged-nic.ts'

/** `access` is in VLAN 42 and `other` in 7, both untagged; `trunk` in both and more, and 7 is its native VLAN. */
export async function keepToVlans({
  access,
  other,
  trunk,
}: {
  access: PluggedNic
  other: PluggedNic
  trunk: PluggedNic
}): Promise<void> {
  await access.send({ text: 'from a' })
  assert.deepEqual(await trunk.until('from a'), [{ tag: 42, text: 'from a' }])
  await other.send({ text: 'from b' })
  assert.deepEqual(await trunk.until('from b'), [{ text: 'from b' }])
  await trunk.send({ tag: 43, text: 'into 43' })
  await trunk.send({ tag: 5, text: 'into 5' })
  await trunk.send({ tag: 42, text: 'into 42' })
  assert.deepEqual(await access.until('into 42'), [{ text: 'into 42' }])
  await trunk.send({ text: 'native' })
  assert.deepEqual(await other.until('native'), [{ text: 'native' }])
  assert.deepEqual(access.taken(), [])
}
