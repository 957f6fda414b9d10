// Which feature bits are served, which of them vhost is told, and which offloads the tap is given.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  checkFeatures,
  featureNames,
  servedFeatures,
  tapOffload,
  vhostFeatures,
} from '../../lib/backend/vhost-net/features.ts'
import { FeatureNegotiationError } from '../../lib/errors.ts'

const bits = (...numbers: number[]): bigint => numbers.reduce((mask, number) => mask | (1n << BigInt(number)), 0n)

const VERSION_1 = bits(32)
/** What VHOST_GET_FEATURES answers. */
const kernels = { '6.1': 0x33d008000n, '6.12': 0x1033d008000n, '7.3': 0x10b3d008000n }
const any = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const neverForGuests = bits(24, 26, 27, 33)

describe('features of vhost-net and a tap', () => {
  for (const [kernel, vhost] of Object.entries(kernels)) {
    it(`are those of Linux ${kernel}, without the bits that are not for guests, and the tap's offloads`, () => {
      const own = { '6.1': [], '6.12': [40], '7.3': [35, 40] }[kernel]!
      const offloads = [0, 1, 7, 8, 9, 11, 12, 13]
      assert.equal(servedFeatures(vhost), bits(15, 28, 29, 32, ...own, ...offloads))
    })
  }

  it('never have legacy notification, the dirty log, vhost’s own header or an IOTLB among them, whatever the kernel says', () => {
    fc.assert(
      fc.property(any, any, (vhost, agreed) => {
        assert.equal(servedFeatures(vhost) & neverForGuests, 0n)
        assert.equal(vhostFeatures(agreed, vhost) & neverForGuests, 0n)
      }),
    )
  })

  it('tell vhost of exactly those agreed bits that it knows', () => {
    fc.assert(
      fc.property(any, any, (vhost, agreed) => {
        assert.equal(vhostFeatures(agreed, vhost), agreed & vhost & ~neverForGuests)
      }),
    )
    assert.equal(vhostFeatures(bits(0, 1, 7, 11, 15, 29, 32), kernels['6.1']), bits(15, 29, 32))
  })

  it('give the tap each offload that the driver accepts, and no more', () => {
    assert.equal(tapOffload(0n), 0)
    assert.equal(tapOffload(bits(1)), 0x01)
    assert.equal(tapOffload(bits(1, 7)), 0x03)
    assert.equal(tapOffload(bits(1, 8)), 0x05)
    assert.equal(tapOffload(bits(1, 7, 9)), 0x0b)
    assert.equal(tapOffload(bits(1, 7, 8, 9)), 0x0f)
    // What the driver sends is none of the tap's business.
    assert.equal(tapOffload(bits(0, 11, 12, 13, 15, 32)), 0)
  })

  it('are agreed where VERSION_1 is, and nothing that is not served', () => {
    fc.assert(
      fc.property(any, any, (vhost, agreed) => {
        const served = servedFeatures(vhost)
        const allowed = (agreed & ~served) === 0n && (agreed & VERSION_1) !== 0n
        const check = (): void => checkFeatures(agreed, served)
        if (allowed) check()
        else
          assert.throws(check, (e: unknown) => e instanceof FeatureNegotiationError && e.code === 'ERR_FEATURE_MISSING')
      }),
    )
    const served = servedFeatures(kernels['6.1'])
    checkFeatures(served, served)
    checkFeatures(VERSION_1, served)
  })

  it('are named in the refusal, all of those that are missing', () => {
    const served = servedFeatures(kernels['6.1'])
    assert.throws(() => checkFeatures(VERSION_1 | bits(34, 99), served), {
      name: 'FeatureNegotiationError',
      message: /does not serve VIRTIO_F_RING_PACKED \(34\), bit 99\n/,
      hint: /`features`/,
      context: { features: '0x8000000000000000500000000' },
    })
    assert.throws(() => checkFeatures(0n, served), { message: /VIRTIO_F_VERSION_1 \(32\)/ })
  })

  it('have names, lowest first', () => {
    assert.equal(featureNames(0n), '')
    assert.equal(featureNames(bits(32, 15)), 'VIRTIO_NET_F_MRG_RXBUF (15), VIRTIO_F_VERSION_1 (32)')
    fc.assert(
      fc.property(any, (features) => {
        const numbers = featureNames(features).split(', ').filter(Boolean)
        const parsed = numbers.map((name) => Number(/\d+(?=\)?$)/.exec(name)![0]))
        assert.equal(bits(...parsed), features)
        assert.deepEqual(
          parsed,
          parsed.toSorted((a, b) => a - b),
        )
      }),
    )
  })
})
