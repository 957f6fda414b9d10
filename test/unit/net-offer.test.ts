// What a virtio-net device offers: what was asked for and is served, with what it needs; and what it says about each bit.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F_NEEDS } from '../../lib/abi/virtio-net.ts'
import { FEATURE_OPTIONS } from '../../lib/net/options.ts'
import { featureBits, featureSet, hasFeature, unmetFeatures } from '../../lib/virtio/index.ts'
import { F, NetRig, without } from '../support/net-rig.ts'
import { RecordingBackend, SERVED } from '../support/recording-backend.ts'

/** Who has which say, where the backend serves all that one can. */
const CONTROL = featureSet(2, 5, 16, 17, 18, 21, 23, VIRTIO_F.VIRTIO_F_RING_RESET)
const NEVER = {
  VIRTIO_F_ACCESS_PLATFORM: VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED: VIRTIO_F.VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_CTRL_VLAN: F.VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_RX_EXTRA: F.VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_DEVICE_STATS: F.VIRTIO_NET_F_DEVICE_STATS,
  VIRTIO_NET_F_HASH_TUNNEL: F.VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_VQ_NOTF_COAL: F.VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_F_NOTF_COAL: F.VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_HASH_REPORT: F.VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_RSS: F.VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_RSC_EXT: F.VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_STANDBY: F.VIRTIO_NET_F_STANDBY,
  VIRTIO_NET_F_RSS_CONTEXT: F.VIRTIO_NET_F_RSS_CONTEXT,
  VIRTIO_NET_F_OUT_NET_HEADER: F.VIRTIO_NET_F_OUT_NET_HEADER,
  VIRTIO_NET_F_IPSEC: F.VIRTIO_NET_F_IPSEC,
}
const ALL_ONES = (1n << 128n) - 1n

describe('the offer of a virtio-net device', () => {
  let rig: NetRig | undefined

  const make = (options: ConstructorParameters<typeof NetRig>[0] = {}, backend?: RecordingBackend): NetRig => {
    rig?.close()
    rig = new NetRig(options, backend)
    return rig
  }
  const explained = (name: string) => rig!.device.explainFeatures().find((feature) => feature.name === name)!

  afterEach(() => {
    rig?.close()
    rig = undefined
  })

  it('is by default all that QEMU offers and the backend serves', () => {
    assert.equal(make().guest.offered, SERVED | CONTROL)
    const mq = featureSet(F.VIRTIO_NET_F_MQ)
    assert.equal(make({}, new RecordingBackend({ queuePairs: 2 })).guest.offered, SERVED | CONTROL | mq)
    assert.equal(make({ mq: false }, new RecordingBackend({ queuePairs: 2 })).guest.offered, SERVED | CONTROL)
    assert.equal(make({ mq: true }).guest.offered, SERVED | CONTROL | mq)
  })

  for (const [name, bit] of Object.entries(NEVER)) {
    it(`[${name}] is not offered whatever the backend serves, says why, and who takes it is refused`, () => {
      const { guest } = make({}, new RecordingBackend({ features: ALL_ONES }))
      assert.equal(hasFeature(guest.offered, bit), false)
      const { refused, offeredBy } = explained(name)
      assert.equal(offeredBy, null)
      assert.equal(refused?.by, 'device')
      assert.ok(refused.why.length > 10)
      guest.begin()
      assert.equal(guest.accept(guest.offered | featureSet(bit)), false)
    })
  }

  for (const [option, bit] of Object.entries(FEATURE_OPTIONS)) {
    it(`is without ${option} where the option is off, and with it where it is on`, () => {
      const backend = new RecordingBackend({ features: SERVED | featureSet(10, 35), queuePairs: 2 })
      assert.equal(hasFeature(make({ [option]: false }, backend).guest.offered, bit), false)
      const on = new RecordingBackend({ features: SERVED | featureSet(10, 35), queuePairs: 2 })
      assert.equal(hasFeature(make({ [option]: true }, on).guest.offered, bit), true)
    })
  }

  it('[NET-FEAT-01] has nothing without what it needs, whatever was asked for and is served', () => {
    const options = fc.record(Object.fromEntries(Object.keys(FEATURE_OPTIONS).map((name) => [name, fc.boolean()])), {
      requiredKeys: [],
    })
    const served = fc.bigInt({ min: 0n, max: ALL_ONES }).map((bits) => bits | featureSet(15, 32))
    fc.assert(
      fc.property(options, served, (given, features) => {
        const { offered } = make(given, new RecordingBackend({ features })).guest
        assert.equal(unmetFeatures(offered, VIRTIO_NET_F_NEEDS), 0n)
        assert.equal(offered & featureSet(5, 15, 32, 40), featureSet(5, 15, 32, 40))
        for (const [name, on] of Object.entries(given)) {
          const bit = FEATURE_OPTIONS[name as keyof typeof FEATURE_OPTIONS]
          if (!on) assert.equal(hasFeature(offered, bit), false, name)
        }
      }),
      { numRuns: 100 },
    )
  })

  for (const { feature, needs } of VIRTIO_NET_F_NEEDS) {
    const bits = featureSet(feature, ...needs.flat())
    it(`[NET-FEAT-01] is not agreed on with bit ${feature} without ${needs.map((any) => any.join(' or ')).join(' and ')}`, () => {
      make({}, new RecordingBackend({ features: SERVED | featureSet(10), queuePairs: 2 }))
      for (const any of needs) {
        const { offered } = rig!.guest
        assert.equal(offered & bits, bits)
        rig!.guest.begin()
        assert.equal(rig!.guest.accept(without(offered, ...any)), false)
      }
    })
  }

  it('is the same after resets, and whatever the driver did in between', () => {
    make()
    const { offered } = rig!.guest
    for (const features of [offered, featureSet(32)]) {
      rig!.up({ features })
      assert.equal(rig!.guest.offered, offered)
      rig!.guest.write('VIRTIO_MMIO_STATUS', 0)
      assert.equal(rig!.guest.offered, offered)
    }
  })

  it('is refused by a backend that lacks what every device has', () => {
    for (const bit of [15, 32]) {
      const backend = new RecordingBackend({ features: without(SERVED, bit) })
      assert.throws(() => new NetRig({}, backend), { code: 'ERR_FEATURE_MISSING' })
    }
  })

  it('is explained: who offers each bit, who does not and why, and what the driver took', () => {
    make({ host_uso: false, csum: false }, new RecordingBackend({ features: without(SERVED, 54) }))
    assert.deepEqual(explained('VIRTIO_NET_F_HOST_USO').refused, { by: 'options', why: 'it was not asked for' })
    assert.deepEqual(explained('VIRTIO_NET_F_GUEST_USO4').refused, {
      by: 'backend',
      why: 'this backend has no bit 54',
    })
    assert.deepEqual(explained('VIRTIO_NET_F_HOST_TSO4').refused, { by: 'rules', why: 'it needs VIRTIO_NET_F_CSUM' })
    assert.deepEqual(explained('VIRTIO_NET_F_HOST_ECN').refused, {
      by: 'rules',
      why: 'it needs VIRTIO_NET_F_HOST_TSO4 or VIRTIO_NET_F_HOST_TSO6',
    })
    assert.equal(explained('VIRTIO_NET_F_MRG_RXBUF').offeredBy, 'backend')
    assert.equal(explained('VIRTIO_F_RING_RESET').offeredBy, 'device')
    assert.equal(explained('VIRTIO_NET_F_MRG_RXBUF').accepted, false)
    rig!.up({ features: featureSet(15, 32) })
    const taken = rig!.device.explainFeatures().flatMap(({ accepted, name }) => (accepted ? [name] : []))
    assert.deepEqual(taken, ['VIRTIO_NET_F_MRG_RXBUF', 'VIRTIO_F_VERSION_1'])
  })

  it('is explained as it is', () => {
    make()
    const rows = rig!.device.explainFeatures()
    assert.deepEqual(JSON.parse(JSON.stringify(rows)), rows)
    assert.deepEqual(
      rows.filter(({ offeredBy }) => offeredBy !== null).map(({ bit }) => bit),
      featureBits(rig!.guest.offered),
    )
    for (const { offeredBy, refused, name } of rows) assert.equal(offeredBy === null, refused !== null, name)
  })

  it('is explained with what the transport withholds', () => {
    make()
    const withheld = featureSet(VIRTIO_F.VIRTIO_RING_F_EVENT_IDX)
    rig!.device.attach({
      withheld,
      configChanged: () => undefined,
      statusChanged: () => undefined,
      queueEnabled: () => undefined,
      queueDisabled: () => undefined,
      reset: () => undefined,
    })
    assert.equal(explained('VIRTIO_RING_F_EVENT_IDX').refused?.by, 'transport')
  })
})
