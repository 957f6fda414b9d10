// A device over PCI as a driver uses it: how it is found, which registers are touched and how, and what is made of a
// device that misbehaves.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { VIRTIO_PCI_CAP, VIRTIO_PCI_COMMON } from '../../lib/abi/virtio-pci.ts'
import {
  FramePort,
  GuestNic,
  initialise,
  LocalEvents,
  LocalMemorySpace,
  PciDevice,
  placeBars,
} from '../../lib/driver/index.ts'
import { BufferMemory, GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { PciBus, PciFunction } from '../../lib/pci/index.ts'
import { VirtioPciTransport } from '../../lib/transport/index.ts'
import { featureSet, type VirtioDevice } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { VERSION_1 } from '../support/mmio-guest.ts'
import { NotedPin } from '../support/pci-bus.ts'
import { type CommonField, PciGuest } from '../support/pci-guest.ts'
import { type PlannedCapability, plannedFunction, STRUCTURES, WatchedSpace } from '../support/pci-registers.ts'
import { soon } from '../support/soon.ts'
import { TEST_NIC_FEATURES, VirtioNic } from '../support/virtio-nic.ts'
import { RNG_FEATURES, VirtioRng } from '../support/virtio-rng.ts'
import { WatchedRegisters } from '../support/watched-registers.ts'

const RING_RESET = featureSet(VIRTIO_F.VIRTIO_F_RING_RESET)
const BARS = 0xd000_0000

describe('the probe of a device over PCI', () => {
  let memory: WatchedSpace
  const probe = (planned: readonly PlannedCapability[], ids = {}): PciDevice | undefined => {
    memory = new WatchedSpace()
    return PciDevice.probe(plannedFunction(planned, ids), { memory })
  }
  /** Where the device's status is read. */
  const statusAt = (device: PciDevice | undefined): number | undefined => {
    memory.log.length = 0
    void device?.status
    return memory.log[0]?.offset
  }

  it('[PCI-ID-D01] [PCI-ID-D02] [PCI-ID-D03] takes virtio’s vendor with any of its devices, transitional ones by their subsystem, of any revision', () => {
    for (const [ids, type] of [
      [{ device: 0x1041 }, 1],
      [{ device: 0x1044 }, 4],
      [{ device: 0x107f }, 0x3f],
      [{ device: 0x1000, subsystem: 1, revision: 0 }, 1],
      [{ device: 0x1041, revision: 0 }, 1],
      [{ device: 0x1041, revision: 0xff }, 1],
      [{ device: 0x1040 }, undefined],
      [{ device: 0x1080 }, undefined],
      [{ device: 0xfff }, undefined],
      [{ vendor: 0x1af5 }, undefined],
      [{ vendor: 0xffff, device: 0xffff }, undefined],
    ] as const) {
      assert.equal(probe(STRUCTURES, ids)?.deviceId, type)
    }
  })

  it('[PCI-LEG-D01] gives up where there are no capabilities of virtio, or not all that a device needs', () => {
    assert.equal(probe([]), undefined)
    assert.equal(probe([{ id: 5 }, { msix: 2 }]), undefined)
    for (const missing of STRUCTURES) assert.equal(probe(STRUCTURES.filter((each) => each !== missing)), undefined)
    assert.deepEqual(memory.log, [])
  })

  it('[PCI-CAP-D01] [PCI-CAP-D04] [PCI-VND-D01] [PCI-VND-D02] passes over types and BARs that are reserved, and data of vendors', () => {
    const { VIRTIO_PCI_CAP_VENDOR_CFG: VENDOR, VIRTIO_PCI_CAP_SHARED_MEMORY_CFG: SHARED } = VIRTIO_PCI_CAP
    const strange = [{ type: 0, length: 64 }, { type: 6, length: 64 }, { type: 0xff, length: 64 }, { type: VENDOR }]
    const reserved = [
      { type: SHARED, size: 24 },
      { type: 1, bar: 6, length: 64 },
      { type: 1, bar: 0xff, length: 64 },
    ]
    const device = probe([...strange, ...reserved, ...STRUCTURES])
    assert.equal(statusAt(device), BARS + VIRTIO_PCI_COMMON.device_status.offset)
  })

  it('[PCI-CAP-D02] takes the first of each type that it can use', () => {
    const common = { type: VIRTIO_PCI_CAP.VIRTIO_PCI_CAP_COMMON_CFG, length: 64 }
    const unusable = [
      { ...common, bar: 1 },
      { ...common, length: 55 },
    ]
    const device = probe([...unusable, { ...common, offset: 0x3000 }, ...STRUCTURES])
    assert.equal(statusAt(device), BARS + 0x3000 + VIRTIO_PCI_COMMON.device_status.offset)
  })

  it('[PCI-CAP-D03] [PCI-CAP-D05] [PCI-CAP-D06] takes capabilities longer than it knows them, and of structures what it knows', () => {
    const long = STRUCTURES.map((each) => ({ ...each, size: 24, length: 0xffff_ffff }))
    const device = probe(long)
    assert.equal(device?.deviceId, 1)
    assert.equal(statusAt(device), BARS + VIRTIO_PCI_COMMON.device_status.offset)
  })

  it('comes to an end where capabilities point to each other, or out of themselves', () => {
    const config = plannedFunction(STRUCTURES)
    for (const next of [0x40, 0x41, 0xff, 0x04]) {
      config.onAccess = ({ offset, width }) =>
        offset > 0x40 && offset % 4 === 1 && width === 1 && config.read(offset - 1, 1) === 9 ? next : undefined
      const found = PciDevice.probe(config, { memory: new WatchedSpace() })
      assert.equal(found, undefined)
    }
  })

  it('finds nothing where nobody has placed the registers', () => {
    const config = plannedFunction(STRUCTURES)
    config.onAccess = ({ offset }) => (offset === 0x10 ? 0 : undefined)
    assert.equal(PciDevice.probe(config, { memory: new WatchedSpace() }), undefined)
  })
})

describe('placing the registers of a PCI function', () => {
  const registers = (size: number) => ({ size, read: () => 0, write: () => undefined })

  it('puts each at a multiple of its size, one behind the other', () => {
    const bus = new PciBus(new LocalMemorySpace())
    const bars = [
      { index: 0, registers: registers(16) },
      { index: 1, registers: registers(0x4000), wide: true },
      { index: 5, registers: registers(4096) },
    ]
    const placed = new PciFunction({ vendorId: 1, deviceId: 1, classCode: 0, bars })
    bus.plug(0, placed)
    assert.equal(placeBars(placed, 0xc000_0008), 0xc000_9000)
    assert.deepEqual(placed.inspect().bars, { 0: 0xc000_0010, 1: 0xc000_4000, 5: 0xc000_8000 })
  })
})

describe('a device over PCI, in the hands of a driver', () => {
  const content = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
  let buffer: ArrayBuffer
  let rng: VirtioRng
  let transport: VirtioPciTransport
  let memory: WatchedSpace
  let config: WatchedRegisters
  let events: LocalEvents
  let device: PciDevice
  let ring: GuestRing

  const make = ({ vectors = 2, useEvents = true, queueSizes = [8] } = {}): void => {
    rng = new VirtioRng(new BufferMemory(buffer), { config: content, queueSizes })
    events = new LocalEvents()
    memory = new WatchedSpace()
    transport = new VirtioPciTransport(rng, { interrupts: events, doorbells: events, pin: new NotedPin(), vectors })
    const bus = new PciBus(memory)
    bus.plug(0, transport.function)
    placeBars(transport.function, BARS)
    config = new WatchedRegisters(transport.function)
    device = PciDevice.probe(config, { memory, ...(useEvents ? { events } : {}) })!
    memory.log.length = 0
  }
  const close = (): void => {
    transport.function.space = undefined
    transport.close()
    rng.close()
  }
  const remake: typeof make = (options) => {
    close()
    make(options)
  }
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
  /** Accesses of the common structure, by field. */
  const fields = (): { what: string; field: string; value: number }[] =>
    memory.log.flatMap(({ what, offset, width, value }) => {
      const found = Object.entries(VIRTIO_PCI_COMMON).find(([, field]) => field.offset === offset - BARS)
      if (found === undefined) return []
      assert.equal(width, found[1].width, found[0])
      return [{ what, field: found[0], value }]
    })
  const written = (name: CommonField): number[] =>
    fields().flatMap(({ what, field, value }) => (what === 'write' && field === name ? [value] : []))

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
    ring = new GuestRing(buffer, 0x1000, 4)
    make()
  })

  afterEach(close)

  it('[PCI-CAP-D07] [PCI-CFG-D01] [PCI-CFG-D02] writes no field of a capability of virtio, and leaves the window alone', async () => {
    remake({ useEvents: false })
    await agree()
    device.enableQueue(0, ring)
    device.addStatus(4)
    await draw()
    const window = new PciGuest(transport.function, { read: () => 0, write: () => undefined } as never).capability(
      'VIRTIO_PCI_CAP_PCI_CFG',
    ).at
    assert.deepEqual(
      config.log.filter(({ what, offset }) => what === 'write' || offset === window + 16),
      [],
    )
  })

  it('[PCI-ACC-D01] [PCI-COM-D01] [PCI-COM-D06] accesses each field at its own width, and writes what is the driver’s to write', async () => {
    await agree(device.offered)
    device.enableQueue(0, ring)
    device.addStatus(4)
    await draw()
    await device.resetQueue(0)
    const common = memory.log.filter(({ offset }) => offset < BARS + 0x1000)
    assert.equal(fields().length, common.length)
    const readOnly = [
      'device_feature',
      'num_queues',
      'config_generation',
      'queue_notify_off',
      'queue_notif_config_data',
    ]
    assert.deepEqual(
      fields().filter(({ what, field }) => what === 'write' && readOnly.includes(field)),
      [],
    )
    assert.deepEqual(written('queue_enable'), [1])
    assert.equal(rng.accepted, device.accepted)
    assert.deepEqual(written('device_feature_select').slice(-4), [0, 1, 2, 3])
  })

  it('[PCI-COM-D05] takes a reset for done when the status reads 0', async () => {
    let looks = 0
    memory.onAccess = ({ what, offset }) => (what === 'read' && offset === BARS + 20 && ++looks < 4 ? 1 : undefined)
    await device.reset()
    assert.equal(looks, 4)
  })

  describe('and its queues', () => {
    it('[PCI-COM-D04] [PCI-MSIX-D03] says everything of one, its vector too, before it enables it', async () => {
      await agree()
      memory.log.length = 0
      device.enableQueue(0, ring)
      assert.deepEqual(
        fields().map(({ what, field }) => `${what} ${field}`),
        [
          'write queue_select',
          'read queue_enable',
          'read queue_size',
          'write queue_size',
          'write queue_desc_lo',
          'write queue_desc_hi',
          'write queue_driver_lo',
          'write queue_driver_hi',
          'write queue_device_lo',
          'write queue_device_hi',
          'write queue_msix_vector',
          'read queue_msix_vector',
          'read queue_notify_off',
          'write queue_enable',
          'read queue_enable',
        ],
      )
      assert.throws(() => device.enableQueue(0, ring), { code: 'ERR_DEVICE_BROKEN' })
    })

    it('[PCI-COM-D03] enables none that is larger than the device has it, or that it has not', async () => {
      await agree()
      for (const [index, num] of [
        [0, 16],
        [1, 1],
      ] as const) {
        assert.throws(() => device.enableQueue(index, { ...ring, num }), { code: 'ERR_QUEUE_SIZE' })
      }
      assert.deepEqual(written('queue_size'), [])
      device.enableQueue(0, ring)
      assert.deepEqual(written('queue_size'), [4])
    })

    it('takes a vector that reads back as none for a device that broke its word', async () => {
      await agree()
      memory.onAccess = ({ what, offset }) => (what === 'read' && offset === BARS + 26 ? 0xffff : undefined)
      assert.throws(() => device.enableQueue(0, ring), { code: 'ERR_DEVICE_BROKEN' })
      assert.deepEqual(written('queue_enable'), [])
      memory.onAccess = ({ what, offset }) => (what === 'read' && offset === BARS + 16 ? 0xffff : undefined)
      assert.throws(() => device.accept(VERSION_1), { code: 'ERR_DEVICE_BROKEN' })
    })

    it('[PCI-COM-D07] takes the reset of one for done when queue_reset reads 0', async () => {
      await agree()
      device.enableQueue(0, ring)
      let looks = 0
      memory.onAccess = ({ what, offset }) => (what === 'read' && offset === BARS + 58 && ++looks < 4 ? 1 : undefined)
      await device.resetQueue(0)
      assert.equal(looks, 4)
      assert.deepEqual(written('queue_reset'), [1])
    })

    it('has no RING_RESET where the device’s structure ends before the field for it', () => {
      assert.notEqual(device.offered & RING_RESET, 0n)
      const common = config.log.find(({ offset, value }) => offset >= 0x40 && value === 64 && offset % 16 === 12)!
      config.onAccess = ({ offset, width }) => (offset === common.offset && width === 4 ? 56 : undefined)
      const short = PciDevice.probe(config, { memory })!
      assert.equal(short.offered, device.offered & ~RING_RESET)
    })

    it('takes one back by its reset, or by that of the device without RING_RESET', async () => {
      for (const features of [VERSION_1 | RING_RESET, VERSION_1]) {
        await agree(features)
        device.enableQueue(0, ring)
        device.disableQueue(0)
        assert.equal(rng.queues[0]!.ready, false)
        assert.equal(device.status, features === VERSION_1 ? 0 : 11)
        device.disableQueue(0)
        await agree(features)
        device.enableQueue(0, ring)
        memory.onAccess = ({ what, offset }) => (what === 'read' && offset !== BARS + 14 ? 1 : undefined)
        assert.throws(() => device.disableQueue(0), { code: 'ERR_DEVICE_BROKEN' })
        memory.onAccess = undefined
      }
    })

    it('[PCI-NTFY-D01] [PCI-NTFY-D03] kicks one by its index, in 16 bits, where the device wants it', async () => {
      remake({ queueSizes: [8, 8, 8], vectors: 4 })
      await agree()
      device.enableQueue(2, ring)
      device.addStatus(4)
      memory.log.length = 0
      device.notify(2)
      assert.deepEqual(memory.log, [{ what: 'write', offset: BARS + 0x1000 + 8, width: 2, value: 2 }])
      assert.equal(device.doorbell(2), rng.queues[2]!.kick)
      assert.equal(device.doorbell(1), undefined)
      device.notify(1)
      assert.equal(memory.log.length, 1)
    })
  })

  it('has its configuration read within its end, and again where it changed meanwhile', () => {
    let changes = 0
    const read = () => {
      const low = device.readConfig(0, 4)
      if (changes < 3) rng.config.update(0, new Uint8Array(8).fill(++changes + 0x10))
      return [low, device.readConfig(4, 4)]
    }
    assert.deepEqual(device.consistently(read), [0x1313_1313, 0x1313_1313])
    assert.throws(() => device.readConfig(5, 4), { code: 'ERR_DEVICE_BROKEN' })
  })

  describe('and its interrupts', () => {
    const begin = async (): Promise<void> => {
      await agree()
      for (const { index } of rng.queues) device.enableQueue(index, new GuestRing(buffer, 0x2000 * (index + 1), 4))
      ring = new GuestRing(buffer, 0x2000, 4)
      device.addStatus(4)
    }

    it('[PCI-MSIX-D01] [PCI-MSIX-D02] works with any number of vectors, and asks for none that there is not', async () => {
      for (const vectors of [2, 3, 4, 300, 2048]) {
        remake({ vectors, queueSizes: [8, 8, 8] })
        await begin()
        const asked = [...written('queue_msix_vector'), ...written('config_msix_vector')]
        assert.ok(asked.every((vector) => vector < vectors))
        const shared = [1, 1 + (1 % (vectors - 1)), 1 + (2 % (vectors - 1))]
        assert.deepEqual(transport.inspect().vectors, { config: 0, queues: shared })
        assert.equal(events.messages.size, vectors)
      }
    }).timeout(10_000)

    it('[PCI-ISR-D01] says what one is about by its vector, and does not read the ISR status', async () => {
      const raised: number[] = []
      events.handler = (vector) => raised.push(vector)
      await begin()
      await draw()
      await soon('the interrupt', () => raised.length === 1)
      rng.config.update(0, Uint8Array.of(9))
      await soon('the interrupt', () => raised.length === 2)
      assert.deepEqual(raised, [1, 0])
      memory.log.length = 0
      assert.deepEqual(device.takeInterrupt(1), { used: true, config: false })
      assert.deepEqual(device.takeInterrupt(0), { used: false, config: true })
      assert.deepEqual(memory.log, [])
    })

    it('[PCI-CHG-D01] takes one by the only vector that there is for both, and reads from the ISR status whether it is both', async () => {
      const planned = [...STRUCTURES, { msix: 1 }]
      const single = PciDevice.probe(plannedFunction(planned), { memory, events })!
      assert.deepEqual(single.takeInterrupt(0), { used: true, config: true })
      remake({ useEvents: false })
      await begin()
      await draw()
      rng.config.update(0, Uint8Array.of(9))
      await soon('the interrupt', () => transport.inspect().isr === 3)
      assert.deepEqual(device.takeInterrupt(), { used: true, config: true })
      assert.deepEqual(device.takeInterrupt(), { used: false, config: false })
    })
  })

  it('is initialised step by step as over MMIO, and let go where that fails', async () => {
    const known = VERSION_1 | RNG_FEATURES
    const setUp = (fails: boolean) => ({
      known,
      rules: [],
      setUp: (found: unknown, _: bigint, undo: { add(step: () => void): void }) => {
        assert.equal(found, device)
        device.enableQueue(0, ring)
        undo.add(() => device.disableQueue(0))
        if (fails) throw new Error('no memory')
        return 'made'
      },
    })
    await assert.rejects(initialise(device, setUp(true)), /no memory/)
    assert.equal(rng.queues[0]!.ready, false)
    assert.equal(await initialise(device, setUp(false)), 'made')
    await draw()
    assert.deepEqual(written('device_status').slice(-5), [0, 1, 3, 11, 15])
  })
})

describe('a driver of a device over PCI that offers everything', () => {
  /** Registers of which all can be written, and read as that. */
  const pliant = () => {
    const view = new DataView(new ArrayBuffer(0x4000))
    view.setUint32(VIRTIO_PCI_COMMON.device_feature.offset, 0xffff_ffff, true)
    view.setUint16(VIRTIO_PCI_COMMON.queue_size.offset, 8, true)
    view.setUint16(VIRTIO_PCI_COMMON.queue_notify_off.offset, 3, true)
    view.setUint16(VIRTIO_PCI_COMMON.queue_notif_config_data.offset, 0xabcd, true)
    return {
      size: 0x4000,
      read: (offset: number, width: number): number =>
        width === 1 ? view.getUint8(offset) : width === 2 ? view.getUint16(offset, true) : view.getUint32(offset, true),
      write(offset: number, width: number, value: number): void {
        if (width === 1) view.setUint8(offset, value)
        else if (width === 2) view.setUint16(offset, value, true)
        else view.setUint32(offset, value, true)
      },
    }
  }

  it('[BASE-RSVD-D10] [PCI-NTFY-D05] accepts NOTIF_CONFIG_DATA, and kicks with what the device has for the queue', async () => {
    const memory = new WatchedSpace()
    memory.map(BARS, pliant())
    const device = PciDevice.probe(plannedFunction(STRUCTURES), { memory })!
    await initialise(device, {
      known: VERSION_1,
      rules: [],
      setUp: () => device.enableQueue(1, new GuestRing(new ArrayBuffer(4096), 0, 8)),
    })
    assert.equal(device.accepted, VERSION_1 | featureSet(VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA))
    device.notify(1)
    assert.deepEqual(memory.log.at(-1), { what: 'write', offset: BARS + 0x1000 + 12, width: 2, value: 0xabcd })
  })

  it('does without NOTIF_CONFIG_DATA where the device’s structure has no field for it', () => {
    const memory = new WatchedSpace()
    memory.map(BARS, pliant())
    const [common, ...others] = STRUCTURES
    const device = PciDevice.probe(plannedFunction([{ ...common, length: 56 }, ...others]), { memory })!
    assert.equal(device.offered & featureSet(VIRTIO_F.VIRTIO_F_NOTIF_CONFIG_DATA, VIRTIO_F.VIRTIO_F_RING_RESET), 0n)
  })
})

describe('a NIC driven over PCI', () => {
  let memory: NativeMemory
  let device: VirtioDevice
  let transport: VirtioPciTransport
  let nic: GuestNic | undefined
  let pin: NotedPin
  const BASE = 0x4000_0000

  const start = async (useEvents: boolean): Promise<GuestNic> => {
    memory = GuestMemory.allocate({ regions: [{ guestAddress: BASE, size: 2 ** 23 }] })
    device = new VirtioNic(memory, { features: TEST_NIC_FEATURES })
    const events = new LocalEvents()
    pin = new NotedPin()
    transport = new VirtioPciTransport(device, {
      interrupts: events,
      pin: {
        set(asserted) {
          pin.set(asserted)
          if (asserted) queueMicrotask(() => nic?.handleInterrupt())
        },
      },
      ...(useEvents ? { doorbells: events } : {}),
    })
    const space = new LocalMemorySpace()
    new PciBus(space).plug(3, transport.function)
    placeBars(transport.function, 0xd000_0000)
    const found = PciDevice.probe(transport.function, { memory: space, ...(useEvents ? { events } : {}) })!
    events.handler = (vector) => nic?.handleInterrupt(vector)
    nic = await GuestNic.start(found, { memory, address: BASE, queueSize: 16, queuePairs: 2 })
    return nic
  }

  afterEach(async () => {
    await nic?.close()
    nic = undefined
    transport.close()
    device.close()
    memory.close()
  })

  for (const [what, useEvents] of [
    ['MSI-X and doorbells', true],
    ['its pin, and kicks that are written', false],
  ] as const) {
    it(`sends, receives, and has its commands answered, with ${what}`, async () => {
      const started = await start(useEvents)
      assert.notEqual(started.features & featureSet(VIRTIO_NET_F.VIRTIO_NET_F_MQ), 0n)
      await started.setQueuePairs(2)
      for (const pair of [0, 1]) {
        const port = new FramePort(started, pair)
        const received = port.frames().next()
        await port.send(Buffer.alloc(100, 7))
        const { value } = await received
        assert.equal(value!.bytes.length, 100)
        port.close()
      }
      const changed = once(started, 'config')
      device.config.update(6, Uint8Array.of(0, 0))
      await changed
      assert.equal(started.config.linkUp, false)
      assert.equal(transport.inspect().doorbells, useEvents ? 7 : 0)
      assert.equal(pin.changes > 0, !useEvents)
    })
  }
})
