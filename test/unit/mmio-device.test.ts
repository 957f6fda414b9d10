// A device behind the registers of virtio-mmio as a driver uses them: what it looks at first, which registers it touches
// and how, and what it makes of a device that misbehaves.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO, VIRTIO_MMIO_INT, VIRTIO_MMIO_MAGIC } from '../../lib/abi/virtio-mmio.ts'
import { MmioDevice } from '../../lib/driver/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { CountedInterrupts, VERSION_1 } from '../support/mmio-guest.ts'
import { soon } from '../support/soon.ts'
import { VirtioRng } from '../support/virtio-rng.ts'
import { plainRegisters, WatchedRegisters } from '../support/watched-registers.ts'

const RING_RESET = featureSet(VIRTIO_F.VIRTIO_F_RING_RESET)
const { VIRTIO_MMIO_INT_VRING: VRING, VIRTIO_MMIO_INT_CONFIG: CONFIG } = VIRTIO_MMIO_INT

describe('the probe of a device over MMIO', () => {
  const found = { VIRTIO_MMIO_MAGIC_VALUE: VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_VERSION: 2, VIRTIO_MMIO_DEVICE_ID: 1 }
  const probed = (values: typeof found) => {
    const registers = plainRegisters(values)
    return { device: MmioDevice.probe(registers), offsets: registers.log.map(({ offset }) => offset) }
  }

  it('[MMIO-D20] [MMIO-D21] looks at magic value, version and device id, in this order, and at nothing else', () => {
    const { device, offsets } = probed(found)
    assert.equal(device?.deviceId, 1)
    assert.deepEqual(offsets, [0, 4, 8])
  })

  it('[MMIO-D06] ignores what has another magic value', () => {
    for (const VIRTIO_MMIO_MAGIC_VALUE of [0, 0x7472_6977, 0xffff_ffff]) {
      assert.equal(probed({ ...found, VIRTIO_MMIO_MAGIC_VALUE }).device, undefined)
    }
  })

  it('[MMIO-D07] ignores what has another version, the legacy one too', () => {
    for (const VIRTIO_MMIO_VERSION of [0, 1, 3, 0xffff_ffff]) {
      assert.equal(probed({ ...found, VIRTIO_MMIO_VERSION }).device, undefined)
    }
  })

  it('[MMIO-D08] [MMIO-D09] [MMIO-D22] takes device id 0 for no device, without an error or another access', () => {
    const { device, offsets } = probed({ ...found, VIRTIO_MMIO_DEVICE_ID: 0 })
    assert.equal(device, undefined)
    assert.deepEqual(offsets, [0, 4, 8])
  })
})

describe('a device over MMIO, in the hands of a driver', () => {
  const content = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
  let buffer: ArrayBuffer
  let rng: VirtioRng
  let transport: VirtioMmioTransport
  let registers: WatchedRegisters
  let device: MmioDevice
  let ring: GuestRing

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
    ring = new GuestRing(buffer, 0x1000, 4)
    rng = new VirtioRng(new BufferMemory(buffer), { config: content })
    transport = new VirtioMmioTransport(rng, { interrupts: new CountedInterrupts() })
    registers = new WatchedRegisters(transport)
    device = MmioDevice.probe(registers)!
  })

  afterEach(() => {
    transport.close()
    rng.close()
  })

  /** Up to where queues can be enabled. */
  const agree = async (features = VERSION_1 | RING_RESET): Promise<void> => {
    await device.reset()
    device.addStatus(1)
    device.addStatus(2)
    device.accept(features)
    device.addStatus(8)
  }
  const draw = async (): Promise<void> => {
    const before = ring.usedIdx
    ring.chain([{ address: 0x8000, length: 8, deviceWrites: true }])
    ring.offer(0)
    device.notify(0)
    await soon('the buffer', () => ring.usedIdx === before + 1)
  }

  it('[MMIO-D10] [MMIO-D11] selects each word of features before it reads or writes it', async () => {
    await agree(device.offered)
    for (const [select, word] of [
      ['VIRTIO_MMIO_DEVICE_FEATURES_SEL', 'VIRTIO_MMIO_DEVICE_FEATURES'],
      ['VIRTIO_MMIO_DRIVER_FEATURES_SEL', 'VIRTIO_MMIO_DRIVER_FEATURES'],
    ] as const) {
      const offsets: number[] = [VIRTIO_MMIO[select], VIRTIO_MMIO[word]]
      const accesses = registers.log.filter(({ offset }) => offsets.includes(offset)).map(({ offset }) => offset)
      assert.deepEqual(accesses, [...offsets, ...offsets, ...offsets, ...offsets])
      assert.deepEqual(registers.written(select), [0, 1, 2, 3])
    }
    assert.equal(rng.accepted, device.accepted)
  })

  it('[BASE-RESET-D01] takes a reset for done when the status reads 0', async () => {
    device.addStatus(1)
    let looks = 0
    registers.onAccess = ({ what, offset }) => {
      const status = what === 'read' && offset === VIRTIO_MMIO.VIRTIO_MMIO_STATUS
      return status && ++looks < 4 ? 1 : undefined
    }
    await device.reset()
    assert.equal(looks, 4)
    registers.onAccess = () => 1
    await assert.rejects(device.reset(AbortSignal.timeout(10)), { name: 'TimeoutError' })
  })

  it('[BASE-STATUS-D02] adds to the status, and takes nothing from it', async () => {
    await agree()
    device.addStatus(4)
    assert.deepEqual(registers.written('VIRTIO_MMIO_STATUS'), [0, 1, 3, 11, 15])
  })

  describe('and its queues', () => {
    it('[MMIO-D13] asks of a queue whether it is enabled before anything else, and lets it alone if it is', async () => {
      await agree()
      device.enableQueue(0, ring)
      const [first, ...rest] = registers.log.slice(registers.log.findIndex(({ offset }) => offset === 0x030) + 1)
      assert.deepEqual(first, { what: 'read', offset: VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_READY, width: 4, value: 0 })
      assert.deepEqual(
        rest.map(({ offset }) => offset),
        [0x034, 0x038, 0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4, 0x044, 0x044],
      )
      const before = registers.log.length
      assert.throws(() => device.enableQueue(0, ring), { code: 'ERR_DEVICE_BROKEN' })
      const after = registers.log.slice(before).map(({ offset }) => offset)
      assert.deepEqual(after, [0x030, 0x044])
    })

    it('[MMIO-D12] enables none that is larger than the device has it, or that it has not', async () => {
      await agree()
      assert.equal(device.queueSizeMax(0), 8)
      for (const [index, num] of [
        [0, 16],
        [1, 1],
      ] as const) {
        assert.throws(() => device.enableQueue(index, { ...ring, num }), { code: 'ERR_QUEUE_SIZE' })
      }
      assert.deepEqual(registers.written('VIRTIO_MMIO_QUEUE_NUM'), [])
    })

    it('says so where the device does not enable or disable one', async () => {
      await agree()
      assert.throws(() => device.enableQueue(0, { ...ring, desc: 0x1008 }), { code: 'ERR_DEVICE_BROKEN' })
      registers.onAccess = ({ what, offset }) => (what === 'read' && offset === 0x044 ? 1 : undefined)
      assert.throws(() => device.disableQueue(0), { code: 'ERR_DEVICE_BROKEN' })
    })

    it('[MMIO-D14] [MMIO-D15] disables one by QueueReady, and reads that back', async () => {
      await agree()
      device.enableQueue(0, ring)
      device.addStatus(4)
      await draw()
      const before = registers.log.length
      device.disableQueue(0)
      assert.deepEqual(registers.log.slice(before), [
        { what: 'write', offset: 0x030, width: 4, value: 0 },
        { what: 'write', offset: 0x044, width: 4, value: 0 },
        { what: 'read', offset: 0x044, width: 4, value: 0 },
      ])
    })

    it('[MMIO-D19] [BASE-VQRST-D01] takes the reset of one for done when QueueReset reads 0', async () => {
      await agree()
      device.enableQueue(0, ring)
      let looks = 0
      registers.onAccess = ({ what, offset }) => (what === 'read' && offset === 0x0c0 && ++looks < 4 ? 1 : undefined)
      await device.resetQueue(0)
      assert.equal(looks, 4)
      assert.deepEqual(registers.written('VIRTIO_MMIO_QUEUE_RESET'), [1])
    })

    it('[BASE-VQRST-D02] says everything anew of one that was reset, which may be elsewhere now', async () => {
      await agree()
      device.enableQueue(0, ring)
      device.addStatus(4)
      await draw()
      await device.resetQueue(0)
      ring = new GuestRing(buffer, 0x4000, 8)
      const before = registers.log.length
      device.enableQueue(0, ring)
      const written = registers.log.slice(before).flatMap(({ what, offset }) => (what === 'write' ? [offset] : []))
      assert.deepEqual(written, [0x030, 0x038, 0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4, 0x044])
      await draw()
    })

    it('resets none without RING_RESET', async () => {
      await agree(VERSION_1)
      await assert.rejects(device.resetQueue(0), { code: 'ERR_FEATURE_MISSING' })
    })
  })

  describe('and its configuration', () => {
    it('[BASE-CFG-D01] [BASE-CFG-D02] [BASE-CFG-D03] is read again where it changed meanwhile', () => {
      let changes = 0
      const read = () => {
        const low = device.readConfig(0, 4)
        // The device changes both halves between the two reads.
        if (changes < 3) rng.config.update(0, new Uint8Array(8).fill(++changes + 0x10))
        return [low, device.readConfig(4, 4)]
      }
      assert.deepEqual(device.consistently(read), [0x1313_1313, 0x1313_1313])
      assert.throws(
        () => device.consistently(() => rng.config.update(0, Uint8Array.of(++changes & 0xff, device.readConfig(0, 1)))),
        { code: 'ERR_DEVICE_BROKEN' },
      )
    })

    it('[BASE-CFG-D05] [BASE-CFG-D06] may be larger than what is read of it, and not smaller', () => {
      assert.equal(device.readConfig(7, 1), 8)
      assert.equal(registers.size, 0x200)
      assert.equal(device.readConfig(0xfc, 4), 0)
      assert.throws(() => device.readConfig(0xfe, 4), { code: 'ERR_DEVICE_BROKEN' })
    })
  })

  describe('and its interrupts', () => {
    beforeEach(async () => {
      await agree()
      device.enableQueue(0, ring)
      device.addStatus(4)
    })

    it('[MMIO-D25] [MMIO-D17] [MMIO-D27] says what one is about, and acknowledges just that', async () => {
      await draw()
      assert.deepEqual(device.takeInterrupt(), { used: true, config: false })
      rng.config.update(0, Uint8Array.of(9))
      assert.deepEqual(device.takeInterrupt(), { used: false, config: true })
      await draw()
      rng.config.update(0, Uint8Array.of(10))
      assert.deepEqual(device.takeInterrupt(), { used: true, config: true })
      assert.deepEqual(registers.written('VIRTIO_MMIO_INTERRUPT_ACK'), [VRING, CONFIG, VRING | CONFIG])
      assert.equal(transport.read(VIRTIO_MMIO.VIRTIO_MMIO_INTERRUPT_STATUS, 4), 0)
    })

    it('[MMIO-D16] [MMIO-D18] ignores bits that nobody defined, and acknowledges none of them', async () => {
      await setImmediate()
      registers.onAccess = ({ what, offset }) => (what === 'read' && offset === 0x060 ? 0xffff_fffc : undefined)
      assert.deepEqual(device.takeInterrupt(), { used: false, config: false })
      registers.onAccess = ({ what, offset }) => (what === 'read' && offset === 0x060 ? 0xffff_ffff : undefined)
      assert.deepEqual(device.takeInterrupt(), { used: true, config: true })
      assert.deepEqual(registers.written('VIRTIO_MMIO_INTERRUPT_ACK'), [VRING | CONFIG])
    })
  })
})
