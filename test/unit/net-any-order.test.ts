// Whatever a driver and its host do to the rings of a virtio-net device, in whatever order: those rings run that should.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_CONFIG_S } from '../../lib/abi/virtio.ts'
import { F, NetRig, without } from '../support/net-rig.ts'
import { RecordingBackend } from '../support/recording-backend.ts'

const PAIRS = 3

/** One thing that is done. */
type Deed = (rig: NetRig) => unknown

const queue = fc.nat(2 * PAIRS - 1)
const deed: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 4,
    arbitrary: queue.map(
      (index): Deed =>
        (rig) =>
          rig.enable(index),
    ),
  },
  {
    weight: 3,
    arbitrary: queue.map(
      (index): Deed =>
        (rig) =>
          rig.resetQueue(index),
    ),
  },
  {
    weight: 2,
    arbitrary: queue.map((index): Deed => {
      return ({ guest }) => {
        guest.write('VIRTIO_MMIO_QUEUE_SEL', index)
        guest.write('VIRTIO_MMIO_QUEUE_READY', 0)
      }
    }),
  },
  {
    weight: 3,
    arbitrary: fc.nat(PAIRS + 1).map(
      (pairs): Deed =>
        (rig) =>
          rig.command(4, 0, pairs, 0),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.boolean().map(
      (up): Deed =>
        ({ device }) =>
          device.setLink(up),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.subarray([...Array(2 * PAIRS).keys()]).map((queues): Deed => {
      return (rig) => rig.up({ queues: [...queues, 2 * PAIRS] })
    }),
  },
)

/** The pairs that should run do; where one does, its enabled rings run, and no others. */
function check({ device, backend }: NetRig): void {
  const { link, activePairs, pairs, fault } = device.inspect()
  assert.equal(fault, null)
  for (const { pair, rings, running, active } of pairs) {
    assert.equal(active, pair < activePairs)
    if (link.up && active && rings.length === 2) assert.ok(running, `pair ${pair} should run`)
    if (!link.up || !active || rings.length === 0) assert.ok(!running, `pair ${pair} should not run`)
    assert.deepEqual(backend.rings(pair), running ? rings : [])
  }
}

describe('the rings of a virtio-net device', () => {
  it('run where both of a pair are enabled, its driver wants it and the link is up, in whatever order that came', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { minLength: 5, maxLength: 25, size: 'max' }), async (deeds) => {
        const rig = new NetRig({}, new RecordingBackend({ queuePairs: PAIRS }))
        try {
          rig.up()
          for (const each of deeds) {
            await each(rig)
            check(rig)
          }
          rig.guest.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_FAILED)
          for (let pair = 0; pair < PAIRS; pair++) assert.ok(!rig.backend.running(pair))
        } finally {
          rig.close()
        }
      }),
      { numRuns: 150 },
    )
  })

  it('beyond the first pair never run where MQ was not agreed on', () => {
    const rig = new NetRig({}, new RecordingBackend({ queuePairs: PAIRS }))
    try {
      rig.up({ features: without(rig.guest.offered, F.VIRTIO_NET_F_MQ) })
      for (const index of [3, 4, 5, 6]) {
        rig.guest.write('VIRTIO_MMIO_QUEUE_SEL', index)
        assert.equal(rig.guest.enable(), false)
      }
      assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0'])
    } finally {
      rig.close()
    }
  })
})
