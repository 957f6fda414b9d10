// Which feature bits are served, which of them vhost is told, and which offloads the tap is given.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  checkFeatures,
  featureNames,
  offloadNames,
  servedFeatures,
  tapOffload,
  vhostFeatures,
  vnetHdrSize,
} from '../../lib/backend/vhost-net/features.ts'
import { FeatureNegotiationError } from '../../lib/errors.ts'

const bits = (...numbers: number[]): bigint => numbers.reduce((mask, number) => mask | (1n << BigInt(number)), 0n)

const VERSION_1 = bits(32)
/** What VHOST_GET_FEATURES answers. */
const kernels = { '6.1': 0x33d008000n, '6.12': 0x1033d008000n, '7.3': 0x10b3d008000n | bits(65, 67) }
const any = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n })
const anyOffloads = fc.integer({ min: 0, max: 0x1ff })
/** What a tap of each kernel takes with TUNSETOFFLOAD. */
const taps = { '6.1': 0x0f, '6.12': 0x6f, '7.3': 0x1ef }
const neverForGuests = bits(24, 26, 27, 33)

describe('features of vhost-net and a tap', () => {
  for (const [kernel, vhost] of Object.entries(kernels)) {
    it(`are those of Linux ${kernel}, without the bits that are not for guests, and the tap's offloads`, () => {
      const uso = [54, 55, 56]
      const own = { '6.1': [], '6.12': [40, ...uso], '7.3': [35, 40, ...uso, 65, 66, 67, 68] }[kernel]!
      const offloads = [0, 1, 7, 8, 9, 11, 12, 13, 14]
      assert.equal(servedFeatures(vhost, taps[kernel as keyof typeof taps]), bits(15, 28, 29, 32, ...own, ...offloads))
    })
  }

  it('never have legacy notification, the dirty log, vhost’s own header or an IOTLB among them, whatever the kernel says', () => {
    fc.assert(
      fc.property(any, any, anyOffloads, (vhost, agreed, offloads) => {
        assert.equal(servedFeatures(vhost, offloads) & neverForGuests, 0n)
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

  it('have UDP tunnels only where vhost and the tap both do, and UDP segmentation where the tap does', () => {
    const [uso, tunnel] = [bits(54, 55, 56), bits(65, 66, 67, 68)]
    const vhost = kernels['7.3']
    assert.equal(servedFeatures(vhost, taps['6.12']) & (uso | tunnel), uso)
    assert.equal(servedFeatures(vhost & ~bits(65), taps['7.3']) & (uso | tunnel), uso)
    assert.equal(servedFeatures(vhost, 0x0f | 0x20) & (uso | tunnel), 0n)
  })

  it('give the tap UDP segmentation of both kinds or of none, and tunnels', () => {
    assert.equal(tapOffload(bits(1, 54)), 0x01)
    assert.equal(tapOffload(bits(1, 54, 55)), 0x61)
    assert.equal(tapOffload(bits(1, 7, 8, 54, 55, 65)), 0xe7)
    assert.equal(tapOffload(bits(1, 7, 8, 54, 55, 65, 66, 67, 68)), 0x1e7)
    assert.deepEqual(offloadNames(0x61), ['TUN_F_CSUM', 'TUN_F_USO4', 'TUN_F_USO6'])
  })

  it('have a header of 24 bytes with a UDP tunnel in either direction, else of 12', () => {
    for (const tunnel of [bits(65), bits(67), bits(65, 66, 67, 68)]) assert.equal(vnetHdrSize(VERSION_1 | tunnel), 24)
    for (const none of [0n, bits(15), bits(66, 68)]) assert.equal(vnetHdrSize(VERSION_1 | none), 12)
  })

  it('are agreed where VERSION_1 is, and nothing that is not served', () => {
    fc.assert(
      fc.property(any, any, anyOffloads, (vhost, agreed, offloads) => {
        const served = servedFeatures(vhost, offloads)
        const allowed = (agreed & ~served) === 0n && (agreed & VERSION_1) !== 0n
        const check = (): void => checkFeatures(agreed, served)
        if (allowed) check()
        else
          assert.throws(check, (e: unknown) => e instanceof FeatureNegotiationError && e.code === 'ERR_FEATURE_MISSING')
      }),
    )
    const served = servedFeatures(kernels['6.1'], taps['6.1'])
    checkFeatures(served, served)
    checkFeatures(VERSION_1, served)
  })

  it('are named in the refusal, all of those that are missing', () => {
    const served = servedFeatures(kernels['6.1'], taps['6.1'])
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
