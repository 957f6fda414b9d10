// Virtio over MMIO with a small entropy device behind it, driven register by register as a guest's driver does.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO_INT } from '../../lib/abi/virtio-mmio.ts'
import type { Doorbell, EventFd } from '../../lib/event/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { featureBits, featureSet, hasFeature, type VirtioDeviceOptions } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { CountedInterrupts, MmioGuest, VERSION_1 } from '../support/mmio-guest.ts'
import { soon } from '../support/soon.ts'
import { NEEDED, NEEDY, RNG_FEATURES, VirtioRng } from '../support/virtio-rng.ts'

const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S
const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET, VIRTIO_CONFIG_S_FAILED: FAILED } = VIRTIO_CONFIG_S
const { VIRTIO_MMIO_INT_VRING: VRING, VIRTIO_MMIO_INT_CONFIG: CONFIG } = VIRTIO_MMIO_INT

const POOL = 0x8000
const RING_RESET = featureSet(VIRTIO_F.VIRTIO_F_RING_RESET)

describe('virtio over MMIO', () => {
  let buffer: ArrayBuffer
  let device: VirtioRng
  let interrupts: CountedInterrupts
  let transport: VirtioMmioTransport
  let guest: MmioGuest
  let ring: GuestRing

  const make = (options: Partial<VirtioDeviceOptions> = {}) => {
    device = new VirtioRng(new BufferMemory(buffer), options)
    interrupts = new CountedInterrupts()
    transport = new VirtioMmioTransport(device, { interrupts })
    guest = new MmioGuest(transport)
  }
  const close = () => {
    transport.close()
    device.close()
  }
  const remake = (options: Partial<VirtioDeviceOptions>) => {
    close()
    make(options)
  }
  /** Offers writable buffers and waits until they are used. */
  const draw = async (count = 1): Promise<void> => {
    const expected = (ring.usedIdx + count) & 0xffff
    ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
    ring.offer(...new Array<number>(count).fill(0))
    guest.kick()
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
    assert.equal(guest.read('VIRTIO_MMIO_DEVICE_ID'), 4)
    guest.start(ring, VERSION_1 | RNG_FEATURES)
    await draw()
    assert.deepEqual(ring.usedElement(0), { id: 0, length: 16 })
    assert.ok(new Uint8Array(buffer, POOL, 16).every((byte) => byte !== 0))
    assert.equal(new Uint8Array(buffer)[POOL + 16], 0)
    assert.equal(interrupts.take(), 1)
    assert.equal(guest.handleInterrupt(), VRING)
    assert.equal(guest.handleInterrupt(), 0)
  })

  describe('says what it is', () => {
    it('[MMIO-01] reads the magic value', () => assert.equal(transport.read(0, 4), 0x74726976))

    it('[MMIO-02] reads version 2', () => assert.equal(transport.read(4, 4), 2))

    it('reads the vendor it was given, and else that of virtio', () => {
      assert.equal(guest.read('VIRTIO_MMIO_VENDOR_ID'), 0x1af4)
      transport.close()
      transport = new VirtioMmioTransport(device, { interrupts, vendorId: 0xfedc_ba98 })
      assert.equal(transport.read(0x00c, 4), 0xfedc_ba98)
    })

    it('[MMIO-14] has a largest queue size for each queue, and 0 where there is none', () => {
      remake({ queueSizes: [8, 32768] })
      for (const [index, size] of [
        [0, 8],
        [1, 32768],
        [2, 0],
        [0xffff_ffff, 0],
      ] as const) {
        guest.write('VIRTIO_MMIO_QUEUE_SEL', index)
        assert.equal(guest.read('VIRTIO_MMIO_QUEUE_NUM_MAX'), size)
      }
    })

    it('[MMIO-15] has no shared memory, whatever is selected', () => {
      for (const select of [0, 1, 255, 0xffff_ffff]) {
        guest.write('VIRTIO_MMIO_SHM_SEL', select)
        for (let register = 0x0b0; register <= 0x0bc; register += 4) {
          assert.equal(transport.read(register, 4), 0xffff_ffff)
        }
      }
    })
  })

  describe('and features', () => {
    it('offers 128 bits in words of 32, and none beyond', () => {
      assert.equal(guest.offered, VERSION_1 | RNG_FEATURES | featureSet(NEEDED, NEEDY))
      guest.write('VIRTIO_MMIO_DEVICE_FEATURES_SEL', 4)
      assert.equal(guest.read('VIRTIO_MMIO_DEVICE_FEATURES'), 0)
    })

    describe('of a device that claims all of them', () => {
      const all = 2n ** 128n - 1n
      const notOffered = [
        'VIRTIO_F_RING_PACKED',
        'VIRTIO_F_ORDER_PLATFORM',
        'VIRTIO_F_SR_IOV',
        'VIRTIO_F_NOTIFICATION_DATA',
        'VIRTIO_F_NOTIF_CONFIG_DATA',
        'VIRTIO_F_ADMIN_VQ',
        'VIRTIO_F_SUSPEND',
      ] as const

      beforeEach(() => remake({ features: all }))

      for (const name of notOffered) {
        it(`[${name}] is not offered, and who takes it is refused`, () => {
          const bit = featureSet(VIRTIO_F[name])
          assert.equal(guest.offered & bit, 0n)
          guest.begin()
          assert.equal(guest.accept(VERSION_1 | bit), false)
        })
      }

      it('[BASE-FEAT-04] [MMIO-17] [BASE-RSVD-06] are offered but for those of PCI and those that nobody serves', () => {
        assert.equal(guest.offered, all & ~featureSet(...notOffered.map((name) => VIRTIO_F[name])))
      })
    })

    it('[BASE-FEAT-02] takes every subset that has what it needs', () => {
      const bits = featureBits(guest.offered & ~VERSION_1)
      for (let choice = 0; choice < 2 ** bits.length; choice++) {
        const set = VERSION_1 | featureSet(...bits.filter((_, i) => choice & (1 << i)))
        guest.begin()
        assert.equal(guest.accept(set), !hasFeature(set, NEEDY) || hasFeature(set, NEEDED))
        assert.equal(device.accepted, set)
      }
    })

    it('[BASE-FEAT-03] does not take a bit that it does not offer, or one without what it needs', () => {
      guest.begin()
      for (const set of [featureSet(1), featureSet(NEEDY), featureSet(127), featureSet(24)]) {
        assert.equal(guest.accept(VERSION_1 | set), false)
      }
      // The driver may think again.
      assert.equal(guest.accept(VERSION_1), true)
    })

    it('[BASE-RSVD-02] does not work for a driver that leaves VERSION_1', () => {
      guest.begin()
      assert.equal(guest.accept(0n), false)
      assert.equal(guest.accept(RNG_FEATURES), false)
    })

    it('[BASE-FEAT-05] offers and takes the same after a reset', () => {
      const { offered } = guest
      for (let i = 0; i < 3; i++) {
        guest.start(new GuestRing(buffer, 0x1000, 8), VERSION_1 | RNG_FEATURES)
        assert.equal(guest.offered, offered)
      }
    })

    it('takes them between DRIVER and FEATURES_OK only', () => {
      const write = () => {
        guest.write('VIRTIO_MMIO_DRIVER_FEATURES_SEL', 1)
        guest.write('VIRTIO_MMIO_DRIVER_FEATURES', 1)
      }
      write()
      guest.addStatus(1)
      write()
      assert.equal(device.accepted, 0n)
      guest.addStatus(2)
      write()
      assert.equal(device.accepted, VERSION_1)
      guest.addStatus(FEATURES_OK)
      guest.write('VIRTIO_MMIO_DRIVER_FEATURES', 0)
      assert.equal(device.accepted, VERSION_1)
    })
  })

  describe('and the status', () => {
    it('[MMIO-16] sets bits step by step, keeps them, and goes back to 0 with a write of 0', () => {
      for (const [written, expected] of [
        [DRIVER_OK, 0],
        [1, 1],
        [2, 3],
        [FEATURES_OK, 3],
        [NEEDS_RESET, 3],
        [0x100, 3],
        [FAILED, 3 | FAILED],
        [0xff, 3 | FAILED],
        [0, 0],
      ] as const) {
        guest.write('VIRTIO_MMIO_STATUS', written)
        assert.equal(guest.status, expected)
      }
    })

    it('[BASE-RESET-01] [MMIO-05] [MMIO-06] reads 0 after a reset, and so do InterruptStatus and every QueueReady', async () => {
      guest.start(ring)
      await draw()
      transport.configChanged()
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), VRING | CONFIG)
      guest.write('VIRTIO_MMIO_STATUS', 0)
      assert.equal(guest.status, 0)
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), 0)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_READY'), 0)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_RESET'), 0)
      assert.equal(device.accepted, 0n)
    })

    it('[BASE-STATUS-01] [BASE-STATUS-02] touches no buffer and interrupts nobody before DRIVER_OK, then serves what waits', async () => {
      guest.begin()
      assert.ok(guest.accept(VERSION_1))
      guest.place(0, ring)
      assert.ok(guest.enable())
      ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
      ring.offer(0)
      guest.kick()
      device.queues[0]!.kick.signal()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.deepEqual([device.served, ring.usedIdx, interrupts.take()], [0, 0, 0])
      guest.addStatus(DRIVER_OK)
      await soon('the buffer', () => ring.usedIdx === 1)
    })

    it('[BASE-STATUS-03] [BASE-STATUS-04] needs a reset for a broken ring, says so, and works after it', async () => {
      guest.start(ring)
      const generation = guest.read('VIRTIO_MMIO_CONFIG_GENERATION')
      ring.offer(8)
      guest.kick()
      await soon('the fault', () => (guest.status & NEEDS_RESET) !== 0)
      assert.equal(guest.status, 0x0f | NEEDS_RESET)
      assert.equal(device.inspect().fault?.cause, 'head-out-of-range')
      assert.equal(interrupts.take(), 1)
      assert.equal(guest.handleInterrupt(), CONFIG)
      assert.equal(guest.read('VIRTIO_MMIO_CONFIG_GENERATION'), generation)
      guest.kick()
      ring = new GuestRing(buffer, 0x1000, 8)
      guest.start(ring)
      await draw()
    })

    it('tells of a fault that came before DRIVER_OK when DRIVER_OK comes, and serves nothing', async () => {
      guest.begin()
      assert.ok(guest.accept(VERSION_1))
      guest.place(0, { ...ring, num: 3, desc: ring.desc, avail: ring.avail, used: ring.used })
      assert.equal(guest.enable(), false)
      assert.equal(guest.status, 0x0b | NEEDS_RESET)
      assert.equal(interrupts.take(), 0)
      guest.addStatus(DRIVER_OK)
      assert.equal(interrupts.take(), 1)
      assert.equal(guest.handleInterrupt(), CONFIG)
      assert.deepEqual(device.log, [])
    })
  })

  describe('and queues', () => {
    const ready = (): void => {
      guest.begin()
      assert.ok(guest.accept(VERSION_1 | RING_RESET))
    }

    const places: readonly (readonly [
      what: string,
      change: Partial<Record<'num' | 'desc' | 'avail' | 'used', number>>,
      cause: string,
    ])[] = [
      ['of size 0', { num: 0 }, 'ERR_QUEUE_SIZE'],
      ['of an odd size', { num: 7 }, 'ERR_QUEUE_SIZE'],
      ['larger than the largest', { num: 16 }, 'ERR_QUEUE_SIZE'],
      ['of a huge size', { num: 0x8000_0000 }, 'ERR_QUEUE_SIZE'],
      ['with descriptors off 16', { desc: 0x1008 }, 'ERR_GPA_ALIGN'],
      ['with an available ring off 2', { avail: 0x2001 }, 'ERR_GPA_ALIGN'],
      ['with a used ring off 4', { used: 0x2002 }, 'ERR_GPA_ALIGN'],
      ['behind the end of memory', { desc: 0x10000 }, 'ERR_GPA_RANGE'],
      ['across the end of memory', { used: 0xfffc }, 'ERR_GPA_RANGE'],
      ['far from memory', { avail: 2 ** 63 }, 'ERR_GPA_RANGE'],
      ['with parts that overlap', { used: 0x1000 }, 'ERR_GPA_OVERLAP'],
    ]
    for (const [what, change, cause] of places) {
      it(`[RING-LAYOUT-01] does not enable one ${what}, and needs a reset`, () => {
        ready()
        const { num, desc, avail, used } = ring
        guest.place(0, { num, desc, avail, used, ...change })
        assert.equal(guest.enable(), false)
        assert.equal(guest.status, 0x0b | NEEDS_RESET)
        assert.deepEqual([device.inspect().fault?.cause, device.inspect().fault?.queue], [cause, 0])
      })
    }

    it('takes size and addresses only after FEATURES_OK, and while it is not enabled', () => {
      const state = () => device.inspect().queues[0]!
      const fresh = state()
      guest.place(0, ring)
      assert.equal(guest.enable(), false)
      assert.deepEqual(state(), fresh)
      assert.equal(guest.status, 0)
      ready()
      guest.place(0, ring)
      const placed = state()
      assert.equal(placed.desc, `0x${ring.desc.toString(16)}`)
      assert.ok(guest.enable())
      guest.place(0, { num: 4, desc: 0x4000, avail: 0x5000, used: 0x6000 })
      assert.deepEqual(state(), { ...placed, ready: true })
    })

    it('takes the halves of an address in any order, each by itself', () => {
      ready()
      guest.write('VIRTIO_MMIO_QUEUE_SEL', 0)
      guest.write('VIRTIO_MMIO_QUEUE_DESC_HIGH', 0xfedc_ba98)
      guest.write('VIRTIO_MMIO_QUEUE_DESC_LOW', 0x8765_4321)
      assert.equal(device.inspect().queues[0]!.desc, '0xfedcba9887654321')
      guest.write('VIRTIO_MMIO_QUEUE_DESC_HIGH', 0)
      assert.equal(device.inspect().queues[0]!.desc, '0x87654321')
    })

    it('[MMIO-08] touches none that is disabled, and begins anew when it is enabled again', async () => {
      guest.start(ring)
      await draw(3)
      guest.handleInterrupt()
      guest.write('VIRTIO_MMIO_QUEUE_READY', 0)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_READY'), 0)
      ring = new GuestRing(buffer, 0x1000, 8)
      ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
      ring.offer(0)
      guest.kick()
      device.queues[0]!.kick.signal()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.equal(ring.usedIdx, 0)
      assert.ok(guest.enable())
      await soon('the buffer', () => ring.usedIdx === 1)
      assert.equal(guest.handleInterrupt(), VRING)
    })

    it('[MMIO-11] [MMIO-12] [MMIO-13] [BASE-VQRST-01] [BASE-VQRST-02] [BASE-VQRST-03] resets one by itself, at once and wholly', async () => {
      remake({ queueSizes: [8, 8] })
      const other = new GuestRing(buffer, 0x2000, 8)
      ready()
      guest.place(1, other)
      assert.ok(guest.enable())
      guest.place(0, ring)
      assert.ok(guest.enable())
      guest.addStatus(DRIVER_OK)
      await draw(2)
      guest.handleInterrupt()
      interrupts.take()
      ring.offer(0)
      guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_RESET'), 0)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_READY'), 0)
      assert.deepEqual(device.inspect().queues[0], {
        index: 0,
        sizeMax: 8,
        size: 8,
        desc: '0x0',
        avail: '0x0',
        used: '0x0',
        ready: false,
      })
      guest.kick()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.deepEqual([ring.usedIdx, interrupts.take()], [2, 0])
      // The other one goes on.
      other.chain([{ address: POOL, length: 16, deviceWrites: true }])
      other.offer(0)
      guest.kick(1)
      await soon('the other', () => other.usedIdx === 1)
    })

    it('[MMIO-10] [BASE-VQRST-04] enables one that was reset with other parameters', async () => {
      guest.start(ring, VERSION_1 | RING_RESET)
      await draw(2)
      guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
      ring = new GuestRing(buffer, 0x4000, 4)
      guest.place(0, ring)
      assert.ok(guest.enable())
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_RESET'), 0)
      await draw(1)
      assert.equal(ring.usedIdx, 1)
    })

    it('[MMIO-09] has no QueueReset without RING_RESET, nor after a device reset', async () => {
      guest.start(ring)
      guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_READY'), 1)
      await draw()
      guest.write('VIRTIO_MMIO_STATUS', 0)
      assert.equal(guest.read('VIRTIO_MMIO_QUEUE_RESET'), 0)
    })

    it('[RING-ANOTIF-03] tolerates kicks of an empty ring, a disabled queue and one that does not exist', async () => {
      remake({ queueSizes: [8, 8] })
      guest.start(ring)
      for (const index of [0, 1, 2, 0xffff, 0x1_0000, 0xffff_ffff]) guest.kick(index)
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.deepEqual([guest.status, device.served, interrupts.take()], [0x0f, 0, 0])
      await draw()
    })
  })

  describe('and interrupts', () => {
    it('[MMIO-03] [MMIO-04] keeps a bit from its event to its acknowledgement, and shows no other', async () => {
      guest.start(ring)
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), 0)
      await draw()
      for (const bits of [0, CONFIG, 0xffff_fffe]) {
        assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), VRING)
        guest.write('VIRTIO_MMIO_INTERRUPT_ACK', bits)
      }
      assert.equal(guest.handleInterrupt(), VRING)
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), 0)
      transport.configChanged()
      guest.write('VIRTIO_MMIO_INTERRUPT_ACK', VRING)
      assert.equal(guest.handleInterrupt(), CONFIG)
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), 0)
    })

    it('acknowledges what was read, and not what came between read and acknowledgement', async () => {
      guest.start(ring)
      await draw()
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), VRING)
      await draw()
      transport.configChanged()
      guest.write('VIRTIO_MMIO_INTERRUPT_ACK', VRING | CONFIG)
      assert.equal(guest.handleInterrupt(), VRING | CONFIG)
      assert.equal(guest.handleInterrupt(), 0)
    })

    it('keeps an event of a queue that was disabled meanwhile', async () => {
      guest.start(ring)
      await draw()
      guest.write('VIRTIO_MMIO_QUEUE_READY', 0)
      assert.equal(guest.handleInterrupt(), VRING)
      assert.equal(guest.handleInterrupt(), 0)
    })

    it('does not take for an event what a driver writes into the used ring before DRIVER_OK', () => {
      guest.begin()
      assert.ok(guest.accept(VERSION_1))
      guest.place(0, ring)
      assert.ok(guest.enable())
      new DataView(buffer).setUint16(ring.used + 2, 5, true)
      assert.equal(guest.read('VIRTIO_MMIO_INTERRUPT_STATUS'), 0)
    })

    it('connects every queue’s call and its own, and disconnects them when it is closed', () => {
      remake({ queueSizes: [8, 8, 8] })
      assert.equal(interrupts.connected.size, 4)
      transport.close()
      assert.equal(interrupts.connected.size, 0)
      transport.close()
    })
  })

  describe('and configuration space', () => {
    const content = Uint8Array.of(1, 2, 3, 4, 5, 6, 7)

    beforeEach(() => remake({ config: content }))

    it('[BASE-CFG-01] [MMIO-18] is read from the first moment on, at any width and alignment', () => {
      assert.equal(transport.read(0x100, 1), 1)
      assert.equal(transport.read(0x101, 2), 0x0302)
      assert.equal(transport.read(0x103, 4), 0x0706_0504)
      assert.equal(transport.read(0x105, 4), 0x0000_0706)
      assert.equal(transport.read(0x1ff, 4), 0)
    })

    it('[BASE-CFG-02] is the same whatever of the offer the driver accepts, before it does and after', () => {
      const read = () => Array.from(content, (_, i) => transport.read(0x100 + i, 1))
      assert.deepEqual(read(), [...content])
      for (const features of [VERSION_1, guest.offered]) {
        guest.begin()
        assert.deepEqual(read(), [...content])
        assert.ok(guest.accept(features))
        assert.deepEqual(read(), [...content])
      }
    })

    it('[BASE-CFG-03] interrupts for a change, between DRIVER_OK and reset', () => {
      const change = (value: number) => device.config.update(0, Uint8Array.of(value))
      change(50)
      assert.equal(interrupts.take(), 0)
      guest.start(ring)
      const before = guest.read('VIRTIO_MMIO_CONFIG_GENERATION')
      change(51)
      assert.equal(interrupts.take(), 1)
      assert.equal(guest.handleInterrupt(), CONFIG)
      assert.notEqual(guest.read('VIRTIO_MMIO_CONFIG_GENERATION'), before)
      guest.write('VIRTIO_MMIO_STATUS', 0)
      change(52)
      assert.equal(interrupts.take(), 0)
      assert.equal(transport.read(0x100, 1), 52)
    })

    it('passes on what a driver writes once features are agreed on, as the bytes they are', () => {
      transport.write(0x100, 1, 9)
      guest.start(ring)
      device.log.length = 0
      transport.write(0x103, 4, 0xfeff_0102)
      transport.write(0x105, 2, 0x0304)
      transport.write(0x106, 1, 0x0905)
      assert.deepEqual(device.log, ['config 3 2 1 255 254', 'config 5 4 3', 'config 6 5'])
      assert.deepEqual(device.config.bytes(), content)
    })

    it('needs a reset where the device fails over a write', () => {
      guest.start(ring)
      device.onHook = (hook) => {
        if (hook.startsWith('config')) throw new Error('no')
      }
      transport.write(0x100, 1, 9)
      assert.equal(guest.status, 0x0f | NEEDS_RESET)
    })
  })

  describe('and accesses that no register takes', () => {
    it('[MMIO-18] reads 0 at any other width or alignment, between registers, and where writing is all there is', () => {
      const readable = [
        0x000, 0x004, 0x008, 0x00c, 0x010, 0x034, 0x044, 0x060, 0x070, 0x0b0, 0x0b4, 0x0b8, 0x0bc, 0x0fc,
      ]
      const config = [0x060, 0x044, 0x0fc]
      guest.write('VIRTIO_MMIO_DEVICE_FEATURES_SEL', 0)
      guest.addStatus(1)
      for (let offset = 0; offset < 0x100; offset++) {
        for (const width of [1, 2, 4, 8, 3, 0]) {
          const value = transport.read(offset, width)
          const answers = width === 4 && readable.includes(offset) && !config.includes(offset)
          assert.equal(value !== 0, answers, `${width} bytes at 0x${offset.toString(16)}: ${value}`)
        }
      }
      for (const width of [0, 3, 5, 8, -1, 1.5, Number.NaN]) assert.equal(transport.read(0x100, width), 0)
      for (const offset of [-4, 0.5, Number.NaN, 2 ** 53]) assert.equal(transport.read(offset, 4), 0)
    })

    it('writes nothing at any other width or alignment, or where reading is all there is', () => {
      guest.start(ring)
      const before = device.inspect()
      const selected = transport.inspect()
      for (let offset = 0; offset < 0x100; offset++) {
        for (const width of [1, 2, 8, 3, 0]) transport.write(offset, width, 0)
        if (offset % 4 !== 0) transport.write(offset, 4, 0)
      }
      for (const offset of [0x000, 0x004, 0x008, 0x00c, 0x010, 0x018, 0x034, 0x060, 0x0b0, 0x0fc, -4]) {
        transport.write(offset, 4, 0xffff_ffff)
      }
      assert.deepEqual(device.inspect(), before)
      assert.deepEqual(transport.inspect(), selected)
    })

    it('is silent once it is closed', () => {
      guest.start(ring)
      transport.close()
      transport.write(0x070, 4, 1)
      assert.deepEqual([transport.read(0, 4), device.status], [0, 0])
    })
  })

  describe('and doorbells', () => {
    it('has each queue’s kick rung by a write of its index to the notify register, from creation to close', async () => {
      remake({ queueSizes: [8, 8] })
      transport.close()
      const assigned: (readonly [Doorbell, EventFd])[] = []
      const doorbells = {
        assign: (doorbell: Doorbell, kick: EventFd) => assigned.push([doorbell, kick]),
        deassign: (doorbell: Doorbell, kick: EventFd) => {
          const at = assigned.findIndex(([one, fd]) => one === doorbell && fd === kick)
          assert.ok(at >= 0)
          assigned.splice(at, 1)
        },
      }
      transport = new VirtioMmioTransport(device, { interrupts, doorbells, address: 0xd000_0000 })
      guest = new MmioGuest(transport)
      assert.deepEqual(
        assigned,
        device.queues.map(({ index, kick }) => [{ address: 0xd000_0050, width: 4, value: index }, kick]),
      )
      guest.start(ring)
      ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
      ring.offer(0)
      assigned[0]![1].signal()
      await soon('the buffer', () => ring.usedIdx === 1)
      transport.close()
      assert.deepEqual(assigned, [])
    })

    it('undoes what it connected where one is refused', () => {
      transport.close()
      const doorbells = {
        assign: () => {
          throw new Error('taken')
        },
        deassign: () => assert.fail(),
      }
      assert.throws(() => new VirtioMmioTransport(device, { interrupts, doorbells, address: 0 }), /taken/)
      assert.equal(interrupts.connected.size, 0)
      const bad = { interrupts, doorbells } as ConstructorParameters<typeof VirtioMmioTransport>[1]
      assert.throws(() => new VirtioMmioTransport(device, bad), { code: 'ERR_OPTION_TYPE', option: 'address' })
    })
  })
})
