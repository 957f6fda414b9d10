// Feature sets of any width, the device status, and configuration space: the pure parts of a virtio device.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { ConfigSpace } from '../../lib/virtio/config-space.ts'
import {
  consistentFeatures,
  type FeatureRule,
  featureBits,
  featureNames,
  featureSet,
  featureWord,
  hasFeature,
  unmetFeatures,
  withFeatureWord,
} from '../../lib/virtio/index.ts'
import { nextStatus, statusNames } from '../../lib/virtio/status.ts'

const bits = fc.uniqueArray(fc.nat(127))

/** Some features that need others, in a chain, and one that needs either of two. */
const rules: readonly FeatureRule[] = [
  { feature: 1, needs: [[0]] },
  { feature: 70, needs: [[1], [33]] },
  { feature: 9, needs: [[7, 8]] },
]

describe('a feature set', () => {
  it('has the bits it was made of, up to 127, and no others', () => {
    fc.assert(
      fc.property(bits, (numbers) => {
        const set = featureSet(...numbers)
        assert.deepEqual(
          featureBits(set),
          numbers.toSorted((a, b) => a - b),
        )
        for (let bit = 0; bit < 128; bit++) assert.equal(hasFeature(set, bit), numbers.includes(bit))
      }),
    )
  })

  it('is the same after it went through words of 32 bits, in any order', () => {
    fc.assert(
      fc.property(
        bits,
        fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }),
        fc.bigInt({ min: 0n, max: 2n ** 140n }),
        (numbers, order, junk) => {
          const set = featureSet(...numbers)
          let copy = junk & (2n ** 128n - 1n)
          for (const select of order) copy = withFeatureWord(copy, select, featureWord(set, select))
          assert.equal(copy, set)
        },
      ),
    )
  })

  it('has words of 0 beyond its width, which take nothing', () => {
    const all = 2n ** 128n - 1n
    for (const select of [4, 5, 0xffff_ffff]) {
      assert.equal(featureWord(all, select), 0)
      assert.equal(withFeatureWord(all, select, 0), all)
    }
    assert.equal(featureWord(all, 3), 0xffff_ffff)
  })

  it('gives names, of every device, of its type, and of nobody', () => {
    const set = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1, VIRTIO_NET_F.VIRTIO_NET_F_MAC, 70, 99)
    assert.deepEqual(featureNames(set, VIRTIO_NET_F), [
      'VIRTIO_NET_F_MAC',
      'VIRTIO_F_VERSION_1',
      'VIRTIO_NET_F_IPSEC',
      'bit 99',
    ])
    assert.deepEqual(featureNames(set), ['bit 5', 'VIRTIO_F_VERSION_1', 'bit 70', 'bit 99'])
  })

  it('[BASE-FEAT-01] without what lacks something is the largest in which nothing does', () => {
    assert.equal(unmetFeatures(featureSet(1, 70, 33), rules), featureSet(1))
    assert.equal(consistentFeatures(featureSet(1, 70, 33), rules), featureSet(33))
    assert.equal(consistentFeatures(featureSet(8, 9), rules), featureSet(8, 9))
    assert.equal(consistentFeatures(featureSet(9), rules), 0n)
    fc.assert(
      fc.property(bits, (numbers) => {
        const set = featureSet(...numbers)
        const rest = consistentFeatures(set, rules)
        assert.equal(rest & ~set, 0n)
        assert.equal(unmetFeatures(rest, rules), 0n)
        // Nothing was dropped that could have stayed.
        for (const bit of featureBits(set & ~rest)) {
          assert.notEqual(unmetFeatures(rest | featureSet(bit), rules), 0n)
        }
      }),
    )
  })
})

describe('the device status', () => {
  const { VIRTIO_CONFIG_S_ACKNOWLEDGE: ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER: DRIVER } = VIRTIO_CONFIG_S
  const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S
  const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET, VIRTIO_CONFIG_S_FAILED: FAILED } = VIRTIO_CONFIG_S
  const written = fc.array(fc.integer({ min: 1, max: 0xffff_ffff }), { maxLength: 12 })
  const yes = () => true

  it('is reached step by step', () => {
    let status = 0
    for (const step of [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK]) {
      const before = status
      status = nextStatus(status, status | step, yes)
      assert.equal(status, before | step)
    }
  })

  it('takes no step before its turn', () => {
    assert.equal(nextStatus(0, DRIVER, yes), 0)
    assert.equal(nextStatus(ACKNOWLEDGE, ACKNOWLEDGE | FEATURES_OK, yes), ACKNOWLEDGE)
    assert.equal(nextStatus(ACKNOWLEDGE | DRIVER, DRIVER_OK, yes), ACKNOWLEDGE | DRIVER)
  })

  it('[BASE-FEAT-03] does not take FEATURES_OK for a set that is not acceptable, nor what comes behind it', () => {
    const all = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
    assert.equal(
      nextStatus(ACKNOWLEDGE | DRIVER, all, () => false),
      ACKNOWLEDGE | DRIVER,
    )
    // Once it is set, the set is not looked at again.
    assert.equal(
      nextStatus(ACKNOWLEDGE | DRIVER | FEATURES_OK, all, () => assert.fail()),
      all,
    )
  })

  it('keeps what is set, whatever is written, and is always a beginning of the steps', () => {
    fc.assert(
      fc.property(written, fc.boolean(), (values, acceptable) => {
        let status = 0
        for (const value of values) {
          const next = nextStatus(status, value, () => acceptable)
          assert.equal(next & status, status)
          assert.equal(next & ~(value | status), 0)
          status = next
        }
        const steps = [0, ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK]
        const beginnings = steps.map((_, i) => steps.slice(0, i + 1).reduce((sum, step) => sum | step, 0))
        assert.ok(beginnings.includes(status & ~FAILED), statusNames(status).join())
        if (!acceptable) assert.equal(status & FEATURES_OK, 0)
      }),
    )
  })

  it('takes nothing behind FAILED, and NEEDS_RESET from no driver', () => {
    assert.equal(nextStatus(ACKNOWLEDGE, FAILED, yes), ACKNOWLEDGE | FAILED)
    assert.equal(nextStatus(ACKNOWLEDGE | FAILED, 0xff, yes), ACKNOWLEDGE | FAILED)
    assert.equal(nextStatus(ACKNOWLEDGE, NEEDS_RESET, yes), ACKNOWLEDGE)
  })

  it('has names', () => {
    assert.deepEqual(statusNames(0xcf), ['ACKNOWLEDGE', 'DRIVER', 'DRIVER_OK', 'FEATURES_OK', 'NEEDS_RESET', 'FAILED'])
  })
})

describe('configuration space', () => {
  const space = (...bytes: number[]) => new ConfigSpace(Uint8Array.from(bytes), () => undefined)

  it('is read at any width and alignment, little-endian, and as 0 beyond its end', () => {
    const bytes = fc.uint8Array({ maxLength: 40 })
    fc.assert(
      fc.property(bytes, fc.nat(50), fc.constantFrom(1, 2, 4), (content, offset, width) => {
        const expected = Array.from({ length: width }, (_, i) => (content[offset + i] ?? 0) * 2 ** (8 * i))
        assert.equal(
          space(...content).read(offset, width),
          expected.reduce((sum, part) => sum + part, 0),
        )
      }),
    )
  })

  it('says that it changed, once for each change, and not where nothing did', () => {
    let changes = 0
    const config = new ConfigSpace(Uint8Array.of(1, 2, 3), () => changes++)
    config.update(1, Uint8Array.of(9, 9))
    config.update(1, Uint8Array.of(9, 9))
    config.update(0, new Uint8Array())
    assert.equal(changes, 1)
    assert.deepEqual(config.bytes(), Uint8Array.of(1, 9, 9))
    assert.throws(() => config.update(2, Uint8Array.of(0, 0)), RangeError)
    assert.throws(() => config.update(-1, Uint8Array.of(0)), RangeError)
  })

  it('[MMIO-07] has another generation wherever a driver could have read old and new together', () => {
    const step = fc.oneof(fc.constant('read' as const), fc.constant('update' as const))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
        const config = space(0, 0)
        const versions = new Set<number>()
        let version = 0
        const before = config.generation
        for (const what of steps) {
          if (what === 'update') config.update(0, Uint8Array.of(++version & 0xff, version >> 8))
          else versions.add(config.read(0, 2))
        }
        const after = config.generation
        if (versions.size > 1) assert.notEqual(before, after)
        // As PCI shows it, in 8 bits: no coming round where nobody looked in between.
        const looks = steps.filter((what) => what === 'read').length
        if (versions.size > 1 && looks < 255) assert.notEqual(before & 0xff, after & 0xff)
      }),
    )
  })

  it('keeps its generation however often it changes, while nobody looks', () => {
    const config = space(0)
    const before = config.generation
    for (let i = 1; i <= 256; i++) config.update(0, Uint8Array.of(i))
    assert.equal(config.generation, before + 1)
  })
})
