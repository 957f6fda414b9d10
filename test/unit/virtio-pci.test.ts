// Virtio over PCI with a small entropy device behind it, driven register by register as a guest's driver does.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_PCI_COMMON } from '../../lib/abi/virtio-pci.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { type VirtioPciOptions, VirtioPciTransport } from '../../lib/transport/index.ts'
import { featureSet, type VirtioDeviceOptions } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { VERSION_1 } from '../support/mmio-guest.ts'
import { NotedMessages, NotedPin, TestBus } from '../support/pci-bus.ts'
import { type CommonField, PciGuest, STRUCTURES } from '../support/pci-guest.ts'
import { soon } from '../support/soon.ts'
import { NEEDED, NEEDY, RNG_FEATURES, VirtioRng } from '../support/virtio-rng.ts'

const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S
const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S
const NO_VECTOR = 0xffff
const POOL = 0x8000
const RING_RESET = featureSet(VIRTIO_F.VIRTIO_F_RING_RESET)
const content = Uint8Array.of(1, 2, 3, 4, 5, 6, 7)
/** The width of the field at each offset. */
const own = new Map<number, number>(Object.values(VIRTIO_PCI_COMMON).map(({ offset, width }) => [offset, width]))

describe('virtio over PCI', () => {
  let buffer: ArrayBuffer
  let device: VirtioRng
  let interrupts: NotedMessages
  let pin: NotedPin
  let machine: TestBus
  let transport: VirtioPciTransport
  let guest: PciGuest
  let ring: GuestRing

  const make = (options: Partial<VirtioDeviceOptions> = {}, more: Partial<VirtioPciOptions> = {}) => {
    device = new VirtioRng(new BufferMemory(buffer), { config: content, ...options })
    interrupts = new NotedMessages()
    pin = new NotedPin()
    machine = new TestBus()
    transport = new VirtioPciTransport(device, { interrupts, pin, ...more })
    machine.bus.plug(2, transport.function)
    guest = new PciGuest(machine.config(2), machine.memory)
    interrupts.takeLog()
  }
  const close = () => {
    machine.bus.unplug(2)
    transport.close()
    device.close()
  }
  const remake = (options: Partial<VirtioDeviceOptions>, more: Partial<VirtioPciOptions> = {}) => {
    close()
    make(options, more)
  }
  /** Offers writable buffers and waits until they are used. */
  const draw = async (count = 1, index = 0): Promise<void> => {
    const expected = (ring.usedIdx + count) & 0xffff
    ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
    ring.offer(...new Array<number>(count).fill(0))
    guest.kick(index)
    await soon('the buffers', () => ring.usedIdx === expected)
    // The turn that used them is over, and so is its interrupt.
    await setImmediate()
  }

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
    ring = new GuestRing(buffer, 0x1000, 8)
    make()
  })

  afterEach(close)

  it('fills the buffers of a guest, from its first read to its first interrupt', async () => {
    assert.equal(guest.config.read(0, 4), 0x1044_1af4)
    guest.enableMsix()
    guest.begin()
    assert.ok(guest.accept(VERSION_1 | RNG_FEATURES))
    guest.place(0, ring)
    assert.equal(guest.mapQueue(0, 1), 1)
    assert.ok(guest.enable())
    guest.addStatus(DRIVER_OK)
    await draw()
    assert.deepEqual(ring.usedElement(0), { id: 0, length: 16 })
    assert.deepEqual(interrupts.take(), { 1: 1 })
    assert.equal(guest.readIsr(), 0)
  })

  describe('and features', () => {
    it('[PCI-COM-03] shows the word that is selected, three of which can have bits, and 0 for any other', () => {
      assert.equal(guest.offered, VERSION_1 | RNG_FEATURES | featureSet(NEEDED, NEEDY))
      for (const select of [0, 1, 2, 3, 4, 5, 32, 0x8000_0000, 0xffff_ffff]) {
        guest.write('device_feature_select', select)
        assert.equal(guest.read('device_feature_select'), select)
        const word = select < 4 ? Number((guest.offered >> BigInt(32 * select)) & 0xffff_ffffn) : 0
        guest.write('device_feature_select', select)
        assert.equal(guest.read('device_feature'), word)
      }
    })

    it('[PCI-COM-04] reads back what the driver accepts, by word', () => {
      guest.begin()
      const features = VERSION_1 | RNG_FEATURES | featureSet(NEEDED, NEEDY)
      assert.ok(guest.accept(features))
      for (let select = 0; select < 5; select++) {
        guest.write('driver_feature_select', select)
        assert.equal(guest.read('driver_feature_select'), select)
        const word = select < 4 ? Number((features >> BigInt(32 * select)) & 0xffff_ffffn) : 0
        assert.equal(guest.read('driver_feature'), word)
        guest.write('driver_feature', 0xffff_ffff)
        assert.equal(guest.read('driver_feature'), word)
      }
    })

    for (const name of [
      'VIRTIO_F_SR_IOV',
      'VIRTIO_F_NOTIFICATION_DATA',
      'VIRTIO_F_NOTIF_CONFIG_DATA',
      'VIRTIO_F_ADMIN_VQ',
      'VIRTIO_F_RING_PACKED',
    ] as const) {
      it(`[${name}] is not offered by a device that claims everything, and who takes it is refused`, () => {
        remake({ features: 2n ** 128n - 1n })
        const bit = featureSet(VIRTIO_F[name])
        assert.equal(guest.offered & bit, 0n)
        guest.begin()
        assert.equal(guest.accept(VERSION_1 | bit), false)
      })
    }
  })

  describe('and the status', () => {
    it('[PCI-COM-06] [PCI-COM-07] [PCI-COM-08] reads 0 after a reset, and everything is as it was at first', async () => {
      remake({ queueSizes: [8, 4] })
      const fields = Object.keys(VIRTIO_PCI_COMMON) as CommonField[]
      const state = () =>
        [0, 1].map((index) => {
          guest.write('queue_select', index)
          return fields.filter((field) => field !== 'config_generation').map((field) => guest.read(field))
        })
      const before = state()
      guest.enableMsix()
      guest.begin()
      assert.ok(guest.accept(VERSION_1 | RING_RESET))
      guest.mapConfig(0)
      guest.place(1, new GuestRing(buffer, 0x2000, 2))
      guest.mapQueue(1, 1)
      assert.ok(guest.enable())
      guest.place(0, ring)
      guest.mapQueue(0, 1)
      assert.ok(guest.enable())
      guest.addStatus(DRIVER_OK)
      await draw()
      device.config.update(0, Uint8Array.of(99))
      guest.write('device_status', 0)
      assert.equal(guest.status, 0)
      device.config.update(0, content)
      assert.equal(guest.readIsr(), 0)
      guest.write('device_feature_select', 0)
      guest.write('driver_feature_select', 0)
      assert.deepEqual(state(), before)
      assert.deepEqual(interrupts.connected.size, 0)
      assert.deepEqual(device.inspect().queues[0]?.ready, false)
    })

    it('needs a reset where the guest takes Bus Master away while the device runs, and works after it', async () => {
      guest.start(ring)
      await draw()
      guest.command = 2
      assert.equal(guest.status, 0x0f | NEEDS_RESET)
      assert.match(device.inspect().fault?.message ?? '', /Bus Master/)
      guest.command = 6
      ring = new GuestRing(buffer, 0x1000, 8)
      guest.start(ring)
      await draw()
      guest.write('device_status', 0)
      guest.command = 2
      assert.equal(device.inspect().fault, null)
    })

    it('is 0, and everything with it, after a reset of the bus', async () => {
      guest.enableMsix()
      guest.start(ring, VERSION_1, 1)
      await draw()
      machine.bus.reset()
      assert.deepEqual([device.status, device.inspect().fault, device.log.at(-1)], [0, null, 'deactivate'])
      assert.equal(machine.memory.windows.size, 0)
      assert.deepEqual(transport.inspect().msix, { enabled: false, functionMask: false, vectors: 2, unmasked: [] })
      assert.equal(interrupts.connected.size, 0)
      guest = new PciGuest(machine.config(2), machine.memory)
      ring = new GuestRing(buffer, 0x1000, 8)
      guest.start(ring)
      await draw()
    })
  })

  describe('and queues', () => {
    const ready = (features = VERSION_1 | RING_RESET): void => {
      guest.begin()
      assert.ok(guest.accept(features))
    }

    it('[PCI-COM-13] [PCI-COM-17] has a size for each, the largest at first, and nothing where there is none', () => {
      remake({ queueSizes: [8, 32768] })
      assert.equal(guest.read('num_queues'), 2)
      for (const [index, size] of [
        [0, 8],
        [1, 32768],
      ] as const) {
        guest.write('queue_select', index)
        assert.equal(guest.read('queue_size'), size)
      }
      ready()
      for (const index of [2, 3, 0xffff]) {
        guest.write('queue_select', index)
        assert.equal(guest.read('queue_select'), index)
        const fields = Object.keys(VIRTIO_PCI_COMMON).filter((name) => /^queue_/.test(name) && name !== 'queue_select')
        const state = () => fields.map((name) => [name, guest.read(name as CommonField)])
        const expected = fields.map((name) => [name, name === 'queue_msix_vector' ? NO_VECTOR : 0])
        assert.deepEqual(state(), expected)
        for (const name of fields) guest.write(name as CommonField, 1)
        assert.deepEqual(state(), expected)
      }
      assert.deepEqual(device.inspect().queues[0]?.size, 8)
    })

    it('[PCI-COM-14] has a power of two as size, whatever is written', () => {
      ready()
      for (const [written, read] of [
        [4, 4],
        [0, 4],
        [3, 4],
        [7, 4],
        [16, 4],
        [0xffff, 4],
        [0x8000, 4],
        [1, 1],
        [8, 8],
      ] as const) {
        guest.write('queue_size', written)
        assert.equal(guest.read('queue_size'), read)
      }
    })

    it('[PCI-ACC-01] takes and shows either half of an address by itself, in any order', () => {
      ready()
      for (const part of ['desc', 'driver', 'device'] as const) {
        guest.write(`queue_${part}_hi`, 0xfedc_ba98)
        assert.deepEqual([guest.read(`queue_${part}_lo`), guest.read(`queue_${part}_hi`)], [0, 0xfedc_ba98])
        guest.write(`queue_${part}_lo`, 0x8765_4321)
        guest.write(`queue_${part}_hi`, 0)
        assert.deepEqual([guest.read(`queue_${part}_lo`), guest.read(`queue_${part}_hi`)], [0x8765_4321, 0])
      }
      assert.equal(device.inspect().queues[0]!.avail, '0x87654321')
    })

    it('takes size and addresses only after FEATURES_OK, and while it is not enabled', () => {
      const state = () => device.inspect().queues[0]!
      const fresh = state()
      guest.place(0, { num: 4, desc: 0x4000, avail: 0x5000, used: 0x6000 })
      assert.equal(guest.enable(), false)
      assert.deepEqual(state(), fresh)
      ready()
      guest.place(0, ring)
      const placed = state()
      assert.ok(guest.enable())
      guest.place(0, { num: 4, desc: 0x4000, avail: 0x5000, used: 0x6000 })
      assert.deepEqual(state(), { ...placed, ready: true })
    })

    it('enables by 1, and disables by nothing but a reset', async () => {
      ready()
      guest.place(0, ring)
      for (const value of [0, 2, 0xffff]) {
        guest.write('queue_enable', value)
        assert.equal(guest.read('queue_enable'), 0)
      }
      assert.ok(guest.enable())
      guest.addStatus(DRIVER_OK)
      for (const value of [0, 2, 1]) guest.write('queue_enable', value)
      assert.equal(guest.read('queue_enable'), 1)
      await draw()
    })

    it('needs a reset where one cannot be enabled', () => {
      ready()
      guest.place(0, { ...ring, num: ring.num, avail: ring.avail, used: ring.used, desc: 0x1008 })
      assert.equal(guest.enable(), false)
      assert.equal(guest.status, 0x0b | NEEDS_RESET)
      assert.equal(device.inspect().fault?.cause, 'ERR_GPA_ALIGN')
    })

    it('[PCI-COM-09] [PCI-COM-10] [PCI-COM-11] [PCI-COM-12] resets one by itself, at once and wholly, its vector too', async () => {
      remake({ queueSizes: [8, 8] })
      guest.enableMsix()
      const other = new GuestRing(buffer, 0x2000, 8)
      ready()
      guest.mapQueue(1, 2)
      guest.place(1, other)
      assert.ok(guest.enable())
      guest.mapQueue(0, 1)
      guest.place(0, ring)
      assert.ok(guest.enable())
      guest.addStatus(DRIVER_OK)
      await draw(2)
      guest.maskVector(1, true)
      await draw()
      guest.write('queue_select', 0)
      for (const value of [0, 2, 0xffff]) guest.write('queue_reset', value)
      assert.equal(guest.read('queue_enable'), 1)
      guest.write('queue_reset', 1)
      assert.deepEqual([guest.read('queue_reset'), guest.read('queue_enable')], [0, 0])
      assert.deepEqual([guest.read('queue_size'), guest.read('queue_desc_lo')], [8, 0])
      assert.equal(guest.read('queue_msix_vector'), NO_VECTOR)
      guest.kick()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.equal(ring.usedIdx, 3)
      // What it signalled before, while it was masked, is of the past.
      ring = new GuestRing(buffer, 0x4000, 4)
      guest.place(0, ring)
      assert.equal(guest.mapQueue(0, 1), 1)
      assert.ok(guest.enable())
      assert.equal(guest.read('queue_reset'), 0)
      guest.maskVector(1, false)
      assert.deepEqual(interrupts.take(), {})
      await draw()
      assert.deepEqual(interrupts.take(), { 1: 1 })
      // The other one went on.
      other.chain([{ address: POOL, length: 16, deviceWrites: true }])
      other.offer(0)
      guest.kick(1)
      await soon('the other', () => other.usedIdx === 1)
    })

    it('has no queue_reset without RING_RESET', async () => {
      guest.enableMsix()
      guest.start(ring, VERSION_1, 1)
      guest.write('queue_reset', 1)
      assert.deepEqual([guest.read('queue_reset'), guest.read('queue_enable')], [0, 1])
      assert.equal(guest.read('queue_msix_vector'), 1)
      await draw()
    })

    it('tolerates kicks of an empty ring, a disabled queue and one that does not exist', async () => {
      remake({ queueSizes: [8, 8] })
      guest.start(ring)
      const notify = guest.address('VIRTIO_PCI_CAP_NOTIFY_CFG')
      for (const index of [0, 1, 2, 3, 1023]) guest.memory.write(notify + 4 * index, 2, index)
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.deepEqual([guest.status, device.served], [0x0f, 0])
      await draw()
    })
  })

  describe('and configuration space', () => {
    const at = (): number => guest.address('VIRTIO_PCI_CAP_DEVICE_CFG')

    it('is read from the first moment on, at any width and alignment, and ends where it ends', () => {
      assert.equal(guest.memory.read(at(), 1), 1)
      assert.equal(guest.memory.read(at() + 1, 2), 0x0302)
      assert.equal(guest.memory.read(at() + 3, 4), 0x0706_0504)
      assert.equal(guest.memory.read(at() + 5, 4), 0)
      assert.equal(guest.memory.read(at() + 7, 1), 0)
    })

    it('passes on what a driver writes once features are agreed on, as the bytes they are', () => {
      guest.memory.write(at(), 1, 9)
      guest.start(ring)
      device.log.length = 0
      guest.memory.write(at() + 3, 4, 0xfeff_0102)
      guest.memory.write(at() + 5, 2, 0x0304)
      guest.memory.write(at() + 6, 2, 0x0304)
      for (const width of [0, 3, 8]) guest.memory.write(at(), width, 1)
      assert.deepEqual(device.log, ['config 3 2 1 255 254', 'config 5 4 3'])
    })

    it('[PCI-COM-05] has another generation wherever a driver could have read old and new together, in 8 bits', () => {
      for (let i = 0; i < 600; i++) {
        const before = guest.read('config_generation')
        assert.ok(before <= 0xff)
        guest.memory.read(at(), 4)
        device.config.update(0, Uint8Array.of(i & 0xff, i >> 8, 9))
        assert.notEqual(guest.read('config_generation'), before)
      }
      // However often it changes between two looks, it does not come round.
      const before = guest.read('config_generation')
      for (let i = 0; i < 256; i++) device.config.update(0, Uint8Array.of(i ^ 0xff, i))
      assert.notEqual(guest.read('config_generation'), before)
    })
  })

  describe('and accesses that no register takes', () => {
    it('reads 0 at any width but a field’s own, between structures and behind them', () => {
      guest.start(ring)
      const { size } = transport.function.bars[0]!.registers
      const config = guest.capability('VIRTIO_PCI_CAP_DEVICE_CFG')
      const isr = guest.capability('VIRTIO_PCI_CAP_ISR_CFG').offset
      device.config.update(0, Uint8Array.of(9))
      for (let offset = 0; offset < size; offset++) {
        if (offset >= config.offset && offset < config.offset + config.length) continue
        for (const width of [0, 1, 2, 3, 4, 8]) {
          if (own.get(offset) === width || (offset === isr && width === 1)) continue
          assert.equal(transport.function.bars[0]!.registers.read(offset, width), 0, `${width} bytes at ${offset}`)
        }
      }
      assert.equal(guest.readIsr(), 2)
    })

    it('writes nothing at any width but a field’s own, nor into what is read-only', () => {
      guest.start(ring)
      const before = [device.inspect(), transport.inspect()]
      for (let offset = 0; offset < 0x1000; offset++) {
        for (const width of [0, 1, 2, 3, 4, 8]) {
          if (own.get(offset) !== width) guest.memory.write(STRUCTURES + offset, width, 0xffff_ffff)
        }
      }
      for (const field of [
        'device_feature',
        'num_queues',
        'config_generation',
        'queue_notify_off',
        'queue_notif_config_data',
        'admin_queue_index',
        'admin_queue_num',
      ] as const) {
        guest.write(field, 1)
      }
      const isr = guest.address('VIRTIO_PCI_CAP_ISR_CFG')
      for (const width of [1, 2, 4]) guest.memory.write(isr, width, 0xffff_ffff)
      assert.deepEqual([device.inspect(), transport.inspect()], before)
      assert.equal(guest.read('queue_notif_config_data'), 0)
    })

    it('reads as nothing once it is closed', () => {
      guest.start(ring)
      transport.close()
      assert.deepEqual([guest.config.read(0, 4), device.status, machine.memory.windows.size], [0xffff_ffff, 0, 0])
      assert.equal(interrupts.connected.size, 0)
      transport.close()
    })
  })

  it('takes features between DRIVER and FEATURES_OK only', () => {
    guest.write('driver_feature_select', 1)
    guest.write('driver_feature', 1)
    assert.equal(guest.read('driver_feature'), 0)
    guest.addStatus(1)
    guest.addStatus(2)
    guest.write('driver_feature', 1)
    assert.equal(guest.read('driver_feature'), 1)
    guest.addStatus(FEATURES_OK)
    assert.equal(guest.status, 0x0b)
  })

  describe('is refused', () => {
    const bad: readonly (readonly [what: string, options: object, error: object])[] = [
      ['with a single vector', { vectors: 1 }, { code: 'ERR_OPTION_RANGE', option: 'vectors' }],
      ['with too many vectors', { vectors: 2049 }, { code: 'ERR_OPTION_RANGE', option: 'vectors' }],
      [
        'with the subsystem of a legacy device',
        { subsystemId: 1 },
        { code: 'ERR_OPTION_RANGE', option: 'subsystemId' },
      ],
      ['with an option that there is not', { queues: 1 }, { code: 'ERR_OPTION_UNKNOWN', option: 'queues' }],
    ]
    for (const [what, options, error] of bad) {
      it(what, () => {
        const refused = () => new VirtioPciTransport(device, { interrupts: new NotedMessages(), ...options })
        assert.throws(refused, error)
      })
    }
  })
})
