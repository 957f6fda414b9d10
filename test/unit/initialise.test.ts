// Initialisation of a device by a driver of any type: the order of its steps, the features it accepts, and what it leaves
// of a device that it cannot drive.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { chooseFeatures, type DriverType, initialise, MmioDevice } from '../../lib/driver/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { type FeatureRule, featureBits, featureSet, hasFeature, unmetFeatures } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { CountedInterrupts, VERSION_1 } from '../support/mmio-guest.ts'
import { NEEDED, NEEDY, RNG_FEATURES, VirtioRng } from '../support/virtio-rng.ts'
import { WatchedRegisters } from '../support/watched-registers.ts'

const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_FAILED: FAILED } = VIRTIO_CONFIG_S
const rules: readonly FeatureRule[] = [{ feature: NEEDY, needs: [[NEEDED]] }]
const known = VERSION_1 | RNG_FEATURES | featureSet(NEEDY, NEEDED)

describe('the features that a driver chooses', () => {
  const sets = fc.uniqueArray(fc.nat(127)).map((bits) => featureSet(...bits) | VERSION_1)

  it('[BASE-FEAT-D01] [BASE-FEAT-D02] [BASE-FEAT-D03] are offered, known, and have what they need; and are all of these', () => {
    fc.assert(
      fc.property(sets, sets, (offered, knows) => {
        const chosen = chooseFeatures(offered, knows, rules)
        assert.equal(chosen & ~(offered & knows), 0n)
        assert.equal(unmetFeatures(chosen, rules), 0n)
        for (const bit of featureBits(offered & knows & ~chosen)) assert.equal(bit, NEEDY)
      }),
    )
  })

  it('[BASE-FEAT-D06] do without what lacks something', () => {
    assert.equal(chooseFeatures(VERSION_1 | featureSet(NEEDY, 28), known, rules), VERSION_1 | featureSet(28))
  })

  it('[BASE-RSVD-D01] have VERSION_1, or there are none', () => {
    assert.ok(hasFeature(chooseFeatures(VERSION_1, known, rules), VIRTIO_F.VIRTIO_F_VERSION_1))
    assert.throws(() => chooseFeatures(RNG_FEATURES, known, rules), { code: 'ERR_FEATURE_MISSING' })
  })
})

describe('a driver that initialises a device', () => {
  let buffer: ArrayBuffer
  let rng: VirtioRng
  let transport: VirtioMmioTransport
  let registers: WatchedRegisters
  let device: MmioDevice

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
    rng = new VirtioRng(new BufferMemory(buffer), { config: Uint8Array.of(1, 2, 3, 4) })
    transport = new VirtioMmioTransport(rng, { interrupts: new CountedInterrupts() })
    registers = new WatchedRegisters(transport)
    device = MmioDevice.probe(registers)!
  })

  afterEach(() => {
    transport.close()
    rng.close()
  })

  const type = (setUp: DriverType<string>['setUp'] = () => 'made'): DriverType<string> => ({ known, rules, setUp })
  const enableOne = type((_, __, undo) => {
    device.enableQueue(0, new GuestRing(buffer, 0x1000, 8))
    undo.add(() => device.disableQueue(0))
    return 'made'
  })
  const isWrite = ({ what }: { what: string }): boolean => what === 'write'

  it('[BASE-INIT-D01] [BASE-STATUS-D01] [MMIO-D24] goes step by step, and says so after each', async () => {
    assert.equal(await initialise(device, enableOne), 'made')
    assert.deepEqual(registers.written('VIRTIO_MMIO_STATUS'), [0, 1, 3, 11, 15])
    const places = registers.log.flatMap(({ what, offset, value }, at) =>
      what === 'write' && offset === VIRTIO_MMIO.VIRTIO_MMIO_STATUS ? [[value, at] as const] : [],
    )
    const at = new Map(places)
    const between = (offset: number, from: number, to: number): void => {
      const found = registers.log.flatMap((access, i) => (access.offset === offset ? [i] : []))
      assert.ok(found.length > 0)
      assert.ok(
        found.every((i) => i > at.get(from)! && i < at.get(to)!),
        `0x${offset.toString(16)}`,
      )
    }
    between(VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES, 3, 11)
    between(VIRTIO_MMIO.VIRTIO_MMIO_DRIVER_FEATURES, 3, 11)
    between(VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_READY, 11, 15)
    assert.equal(rng.status, 15)
  })

  it('[BASE-INIT-D02] [BASE-INIT-D03] writes no configuration, and no features once FEATURES_OK was written', async () => {
    await initialise(device, type())
    const agreed = registers.log.findIndex(({ offset, value }) => offset === 0x070 && value === 11)
    const later = registers.log.slice(agreed).filter(isWrite)
    assert.ok(later.every(({ offset }) => offset !== VIRTIO_MMIO.VIRTIO_MMIO_DRIVER_FEATURES))
    assert.ok(registers.log.filter(isWrite).every(({ offset }) => offset < VIRTIO_MMIO.VIRTIO_MMIO_CONFIG))
  })

  it('[BASE-FEAT-D04] [BASE-FEAT-D05] [BASE-FEAT-D08] [BASE-RSVD-D08] [BASE-SUSP-D01] lets alone what it does not know of an offer of everything', async () => {
    registers.onAccess = ({ what, offset }) =>
      what === 'read' && offset === VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES ? 0xffff_ffff : undefined
    await initialise(device, type())
    assert.equal(rng.accepted, known)
    assert.ok(!hasFeature(rng.accepted, VIRTIO_F.VIRTIO_F_SR_IOV))
    assert.ok(registers.written('VIRTIO_MMIO_STATUS').every((status) => (status & 0x10) === 0))
  })

  it('[BASE-FEAT-D07] [BASE-INIT-D05] [BASE-INIT-D06] sets FAILED where it cannot go on, and goes no further', async () => {
    registers.onAccess = ({ what, offset }) =>
      what === 'read' && offset === VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES ? 0 : undefined
    await assert.rejects(initialise(device, type()), { code: 'ERR_FEATURE_MISSING' })
    assert.deepEqual(registers.written('VIRTIO_MMIO_STATUS'), [0, 1, 3, 3 | FAILED])
    assert.deepEqual(registers.log.at(-1), { what: 'write', offset: 0x070, width: 4, value: 3 | FAILED })
  })

  it('[BASE-INIT-D04] reads FEATURES_OK again, and stops where it is clear', async () => {
    registers.onAccess = ({ what, offset }) =>
      what === 'read' && offset === VIRTIO_MMIO.VIRTIO_MMIO_STATUS ? rng.status & ~FEATURES_OK : undefined
    const setUp = () => assert.fail('there is nothing to set up')
    await assert.rejects(initialise(device, type(setUp)), { code: 'ERR_DEVICE_FEATURES' })
    assert.deepEqual(registers.written('VIRTIO_MMIO_STATUS'), [0, 1, 3, 11, 3 | FAILED])
  })

  it('[BASE-STATUS-D03] resets a device that failed before it tries again', async () => {
    const failing = type(() => {
      throw new Error('no memory')
    })
    await assert.rejects(initialise(device, failing), /no memory/)
    assert.equal(rng.status, 11 | FAILED)
    await initialise(device, type())
    assert.deepEqual(registers.written('VIRTIO_MMIO_STATUS'), [0, 1, 3, 11, 11 | FAILED, 0, 1, 3, 11, 15])
  })

  it('undoes what was set up where the device fails at the last step', async () => {
    rng.onHook = (hook) => {
      if (hook === 'activate') throw new Error('no')
    }
    const undone: string[] = []
    const setUp: DriverType<string>['setUp'] = (...given) => {
      given[2].add(() => undone.push('made'))
      return enableOne.setUp(...given)
    }
    await assert.rejects(initialise(device, type(setUp)), { code: 'ERR_DEVICE_NEEDS_RESET' })
    assert.deepEqual(undone, ['made'])
    assert.equal(rng.queues[0]!.ready, false)
    assert.equal(rng.status & FAILED, FAILED)
  })
})
