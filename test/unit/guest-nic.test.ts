// A NIC driven through registers, against a small network device: its initialisation, what it takes from configuration
// space, its pairs, and what interrupts tell it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { FramePort, GuestNic, type GuestNicOptions, MmioDevice, NetHeader } from '../../lib/driver/index.ts'
import { featureSet, hasFeature } from '../../lib/virtio/index.ts'
import { MEMORY_BASE, NicOverMmio } from '../support/nic-over-mmio.ts'
import { build } from '../support/packets.ts'
import { soon } from '../support/soon.ts'
import { TEST_NIC_CONFIG, TEST_NIC_FEATURES } from '../support/virtio-nic.ts'
import { plainRegisters } from '../support/watched-registers.ts'

const { VIRTIO_CONFIG_S_FAILED: FAILED, VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S
const GUEST_TSO4 = featureSet(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4)
const without = (...bits: number[]): bigint => TEST_NIC_FEATURES & ~featureSet(...bits)

describe('a NIC driven through registers', () => {
  let rig: NicOverMmio

  const make = (options: ConstructorParameters<typeof NicOverMmio>[0] = {}): NicOverMmio => {
    rig = new NicOverMmio(options)
    return rig
  }
  const start = (options: Partial<GuestNicOptions> = {}): Promise<GuestNic> => rig.start(options)

  /** Sends a frame and receives it again. */
  const roundTrip = async (nic: GuestNic, pair = 0, size = 100): Promise<Buffer> => {
    const port = new FramePort(nic, pair)
    const received = port.frames().next()
    await port.send(Buffer.alloc(size, 7))
    const { value } = await received
    port.close()
    return Buffer.from(value!.bytes)
  }

  afterEach(() => rig.close())

  describe('is initialised', () => {
    it('and sends and receives', async () => {
      const nic = await make().start()
      assert.equal(nic.features, rig.device.accepted)
      assert.deepEqual(await roundTrip(nic), Buffer.alloc(100, 7))
    })

    it('[BASE-INIT-D07] without a kick before DRIVER_OK', async () => {
      const nic = await make().start()
      await roundTrip(nic)
      const status = rig.registers.log.findIndex(({ offset, value }) => offset === 0x070 && value === 15)
      const kick = rig.registers.log.findIndex(({ offset }) => offset === VIRTIO_MMIO.VIRTIO_MMIO_QUEUE_NOTIFY)
      assert.ok(kick > status, `${kick}, ${status}`)
    })

    it('[BASE-RSVD-D02] [BASE-RSVD-D04] with ACCESS_PLATFORM where it is offered, and with physical addresses anyway', async () => {
      const access = featureSet(VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM)
      for (const features of [TEST_NIC_FEATURES | access, TEST_NIC_FEATURES]) {
        const nic = await make({ features }).start()
        assert.equal(nic.features & access, features & access)
        for (const { rx, tx } of nic.pairs) {
          for (const { desc, pool } of [rx.layout, tx.layout]) assert.ok(Math.min(desc, pool) > MEMORY_BASE)
        }
        await roundTrip(nic)
        if (features & access) await rig.close()
      }
    })

    it('[NET-RXB-D05] with buffers in every receive queue that it may use', async () => {
      await make().start({ queuePairs: 3 })
      for (const index of [0, 2, 4]) {
        const { num, avail } = rig.device.queues[index]!.vring!
        const bytes = new Uint8Array(2)
        rig.memory.read(avail + 2, bytes)
        assert.equal(bytes[0], num)
      }
    })

    it('[NET-RXB-D01] [NET-RXB-D02] with nothing large to receive where a buffer must hold a whole frame', async () => {
      const nic = await make({ features: without(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF) }).start()
      assert.equal(nic.features & GUEST_TSO4, 0n)
      const { bufferSize, pool } = nic.pairs[0]!.rx.layout
      assert.ok(bufferSize >= 1526 && pool > 0)
      await rig.close()
      assert.equal((await make().start()).features & GUEST_TSO4, GUEST_TSO4)
    })

    it('[NET-CFG-D07] [NET-CFG-D08] with MTU where it is offered, and buffers for that', async () => {
      const config = Uint8Array.from(TEST_NIC_CONFIG)
      config.set([0x28, 0x23], 10)
      const features = without(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF)
      make({ config, features })
      await assert.rejects(start(), { code: 'ERR_OPTION_CONFLICT', option: 'bufferSize' })
      const nic = await start({ bufferSize: 9026 })
      assert.ok(hasFeature(nic.features, VIRTIO_NET_F.VIRTIO_NET_F_MTU))
      assert.equal(nic.config.mtu, 9000)
      assert.equal((await roundTrip(nic, 0, 9014)).length, 9014)
    })

    it('[NET-RXB-D04] [NET-CFG-D13] without what makes the header longer than 12 bytes', async () => {
      const longer = featureSet(
        VIRTIO_NET_F.VIRTIO_NET_F_HASH_REPORT,
        VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
        VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
        VIRTIO_NET_F.VIRTIO_NET_F_OUT_NET_HEADER,
        VIRTIO_NET_F.VIRTIO_NET_F_IPSEC,
      )
      const nic = await make({ features: TEST_NIC_FEATURES | longer }).start()
      assert.equal(nic.features & longer, 0n)
      await roundTrip(nic)
    })

    it('[NET-CFG-D14] without what needs a control queue where there is none', async () => {
      const nic = await make({ features: without(VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ) }).start()
      assert.ok(hasFeature(rig.device.offered, VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX_EXTRA))
      const { VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_MQ } = VIRTIO_NET_F
      assert.equal(nic.features & featureSet(VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_MQ), 0n)
      await roundTrip(nic)
    })

    it('[NET-TX-D30] with GUEST_HDRLEN where it is offered', async () => {
      const exact = featureSet(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_HDRLEN)
      assert.equal((await make({ features: TEST_NIC_FEATURES | exact }).start()).features & exact, exact)
    })

    it('or not at all, with the device FAILED and nothing left', async () => {
      make({ queueSizes: [8, 8, 8, 8, 8, 8, 8] })
      await assert.rejects(start(), { code: 'ERR_QUEUE_SIZE' })
      assert.equal(rig.device.status & FAILED, FAILED)
      assert.deepEqual(rig.memory.inspect().pins, [])
      await start({ queueSize: 8 })
    })

    it('only if it is a network device', async () => {
      make()
      const values = { VIRTIO_MMIO_MAGIC_VALUE: 0x7472_6976, VIRTIO_MMIO_VERSION: 2, VIRTIO_MMIO_DEVICE_ID: 4 }
      const rng = MmioDevice.probe(plainRegisters(values))!
      await assert.rejects(GuestNic.start(rng, { memory: rig.memory }), { code: 'ERR_OPTION_CONFLICT' })
    })

    it('within the memory that it says it needs', async () => {
      make()
      const options = { address: MEMORY_BASE, queueSize: 16, queuePairs: 2 } as const
      const size = GuestNic.memoryNeeded(options)
      await start(options)
      const ends = rig.memory.inspect().pins.map((pin) => pin.guestAddress + pin.size)
      assert.equal(Math.max(...ends), MEMORY_BASE + size)
    })
  })

  describe('and its configuration', () => {
    it('[NET-CFG-D02] [NET-CFG-D03] [NET-CFG-D06] is what the device says', async () => {
      const nic = await make().start()
      assert.ok(hasFeature(nic.features, VIRTIO_NET_F.VIRTIO_NET_F_MAC))
      assert.equal(nic.mac, '52:54:00:01:02:03')
      assert.deepEqual(nic.config, {
        mac: '52:54:00:01:02:03',
        linkUp: true,
        announce: false,
        maxQueuePairs: 3,
        mtu: 1500,
        speed: 10_000,
        duplex: 'full',
      })
    })

    it('[BASE-CFG-D04] [NET-CFG-D04] [NET-CFG-D05] is not read where the device does not offer it', async () => {
      make({ features: featureSet(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF), config: new Uint8Array() })
      const nic = await start()
      assert.ok(rig.registers.log.every(({ offset }) => offset < VIRTIO_MMIO.VIRTIO_MMIO_CONFIG))
      assert.deepEqual([nic.config.linkUp, nic.config.maxQueuePairs, nic.config.mtu], [true, 1, undefined])
      assert.match(nic.mac, /^[\da-f][26ae](:[\da-f]{2}){5}$/)
      assert.equal(nic.control, undefined)
      await assert.rejects(nic.setMac('52:54:00:00:00:01'), { code: 'ERR_NOT_ACTIVE' })
      await roundTrip(nic)
    })

    it('[NET-CFG-D11] has neither speed nor duplex where these are out of range', async () => {
      const config = Uint8Array.from(TEST_NIC_CONFIG)
      config.set([0, 0, 0, 0x80, 2], 12)
      const nic = await make({ config }).start()
      assert.deepEqual([nic.config.speed, nic.config.duplex], [undefined, undefined])
    })

    it('[NET-CFG-D12] is read anew when the device says that it changed', async () => {
      const nic = await make().start()
      const changed = once(nic, 'config')
      rig.device.config.update(6, Uint8Array.of(0))
      await changed
      assert.equal(nic.config.linkUp, false)
      rig.device.config.update(12, Uint8Array.of(0xe8, 3, 0, 0, 0))
      await once(nic, 'config')
      assert.deepEqual([nic.config.speed, nic.config.duplex], [1000, 'half'])
    })
  })

  it('[NET-CFG-D09] sends no frame above the MTU but what the device is to cut', async () => {
    const nic = await make({ features: TEST_NIC_FEATURES | featureSet(VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4) }).start()
    const port = new FramePort(nic)
    for (const [size, type] of [
      [1514, 0x0800],
      [1518, 0x8100],
    ] as const) {
      const frame = Buffer.alloc(size + 1)
      frame.writeUInt16BE(type, 12)
      assert.throws(() => port.offer([frame]), { code: 'ERR_OPTION_RANGE' })
      assert.equal(port.offer([frame.subarray(0, size)]), 1)
    }
    const { frame } = build({ protocol: 'tcp', payload: Buffer.alloc(4000) })
    assert.throws(() => port.offer([{ bytes: frame, header: new NetHeader() }]), { code: 'ERR_OPTION_RANGE' })
    assert.equal(port.offer([{ bytes: frame, header: new NetHeader().offloadSegmentation(1448, frame) }]), 1)
    port.close()
  })

  describe('and its pairs', () => {
    it('[NET-CTRL-MQ-D01] [NET-CTRL-MQ-D03] are enabled from the start, and all but the first unused', async () => {
      const nic = await make().start({ queuePairs: 3 })
      assert.equal(nic.pairs.length, 1)
      assert.deepEqual(
        rig.device.queues.map(({ ready }) => ready),
        new Array(7).fill(true),
      )
      await nic.setQueuePairs(3)
      assert.equal(nic.pairs.length, 3)
      await roundTrip(nic, 2)
      assert.deepEqual([...rig.device.sent.keys()], [5])
    })

    it('[NET-CTRL-MQ-D04] are unused above a number from the moment on at which the device may know it', async () => {
      const nic = await make().start({ queuePairs: 3 })
      await nic.setQueuePairs(3)
      const pairs: number[] = []
      rig.device.onCommand = () => pairs.push(nic.pairs.length)
      await nic.setQueuePairs(2)
      await nic.setQueuePairs(3)
      assert.deepEqual([...pairs, nic.pairs.length], [2, 2, 3])
      rig.device.answers.push(1, 1)
      await assert.rejects(nic.setQueuePairs(1), { code: 'ERR_COMMAND_REFUSED' })
      assert.equal(nic.pairs.length, 3)
    })

    it('[NET-CTRL-MQ-D02] are never none, nor more than were set up', async () => {
      const nic = await make().start({ queuePairs: 8 })
      for (const pairs of [0, 4, -1, 1.5]) await assert.rejects(nic.setQueuePairs(pairs), { code: 'ERR_OPTION_RANGE' })
      assert.deepEqual(rig.device.commands, [])
    })

    it('are one where MQ is not offered, with the control queue behind it', async () => {
      const nic = await make({ features: without(VIRTIO_NET_F.VIRTIO_NET_F_MQ) }).start()
      await nic.setMac('52:54:00:00:00:01')
      assert.deepEqual(
        rig.device.queues.map(({ ready }) => ready),
        [true, true, true, false, false, false, false],
      )
    })
  })

  describe('and interrupts', () => {
    it('[MMIO-D26] for used buffers reach every queue', async () => {
      const nic = await make().start()
      rig.registers.onAccess = ({ what, offset }) => (what === 'read' && offset === 0x060 ? 1 : undefined)
      const { rx, tx } = nic.pairs[0]!
      const before = [rx.counters().calls, tx.counters().calls]
      nic.handleInterrupt()
      assert.deepEqual([rx.counters().calls - before[0]!, tx.counters().calls - before[1]!], [1, 1])
    })

    it('[NET-CTRL-ANN-D01] [NET-CTRL-ANN-D02] to announce it tell the listener, and then the device', async () => {
      const nic = await make().start()
      const told: number[] = []
      nic.on('announce', () => told.push(rig.device.commands.length))
      rig.device.config.update(6, Uint8Array.of(3))
      await soon('the acknowledgement', () => rig.device.commands.length === 1)
      assert.deepEqual(told, [0])
      assert.deepEqual(rig.device.commands, [[3, 0]])
    })

    it('[BASE-STATUS-D04] about DEVICE_NEEDS_RESET end what waits, with the reason', async () => {
      const nic = await make().start()
      rig.device.onCommand = () => rig.device.fault(new Error('broken'))
      const fault = once(nic, 'fault')
      await assert.rejects(nic.setMac('52:54:00:00:00:01'), { code: 'ERR_DEVICE_NEEDS_RESET' })
      assert.equal(((await fault)[0] as { code: string }).code, 'ERR_DEVICE_NEEDS_RESET')
      await assert.rejects(nic.setMac('52:54:00:00:00:01'), { code: 'ERR_DEVICE_NEEDS_RESET' })
      assert.equal(rig.device.status & NEEDS_RESET, NEEDS_RESET)
      assert.equal(nic.mac, '52:54:00:01:02:03')
    })
  })

  it('[NET-CTRL-MAC-D02] tells the device of an address that is not the device’s', async () => {
    const nic = await make().start({ mac: '52:54:00:aa:bb:cc' })
    assert.equal(nic.mac, '52:54:00:aa:bb:cc')
    assert.deepEqual(rig.device.commands, [[1, 1, 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]])
    await rig.close()
    await make().start({ mac: '52:54:00:01:02:03' })
    assert.deepEqual(rig.device.commands, [])
    await rig.close()
    make().device.answers.push(1)
    await assert.rejects(start({ mac: '52:54:00:aa:bb:cc' }), { code: 'ERR_COMMAND_REFUSED' })
    assert.equal(rig.device.status, 0)
  })

  it('[BASE-CLEAN-D02] resets the device before it takes anything back', async () => {
    const nic = await make().start()
    const { tx } = nic.pairs[0]!
    const closed: boolean[] = []
    rig.registers.onAccess = ({ offset }) => {
      if (offset === VIRTIO_MMIO.VIRTIO_MMIO_STATUS) closed.push(tx.closed)
      return undefined
    }
    await nic.close()
    assert.deepEqual(closed, [false, false])
    assert.equal(tx.closed, true)
    assert.equal(rig.device.status, 0)
    nic.handleInterrupt()
    await nic.close()
  })
})
