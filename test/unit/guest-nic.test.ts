// A NIC driven through registers, against a small network device: what it takes from configuration space, its pairs, and
// what interrupts tell it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { VIRTIO_CONFIG_S } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { FramePort, type GuestNic, type GuestNicOptions, LocalEvents, NetHeader } from '../../lib/driver/index.ts'
import { featureSet, hasFeature } from '../../lib/virtio/index.ts'
import { NicOverMmio, roundTrip } from '../support/nic-over-mmio.ts'
import { build } from '../support/packets.ts'
import { soon } from '../support/soon.ts'
import { TEST_NIC_CONFIG, TEST_NIC_FEATURES, withoutFeatures } from '../support/virtio-nic.ts'

const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S

describe('a NIC driven through registers', () => {
  let rig: NicOverMmio

  const make = (options: ConstructorParameters<typeof NicOverMmio>[0] = {}): NicOverMmio => {
    rig = new NicOverMmio(options)
    return rig
  }
  const start = (options: Partial<GuestNicOptions> = {}): Promise<GuestNic> => rig.start(options)

  afterEach(() => rig.close())

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
      const nic = await make({ features: withoutFeatures(VIRTIO_NET_F.VIRTIO_NET_F_MQ) }).start()
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
      const reached: string[] = []
      for (const queue of Object.values(nic.pairs[0]!)) queue.handleInterrupt = () => reached.push(queue.name)
      nic.handleInterrupt()
      assert.deepEqual(reached, ['pair 0 rx', 'pair 0 tx'])
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

  describe('and doorbells', () => {
    const { VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S

    it('signals those behind the notify register, and packets move without a write to it', async () => {
      rig = new NicOverMmio({}, { events: new LocalEvents(), address: 0x1000 })
      const nic = await start()
      assert.equal((await roundTrip(nic)).length, 100)
      assert.deepEqual(rig.registers.written('VIRTIO_MMIO_QUEUE_NOTIFY'), [])
      await nic.setMac('52:54:00:00:00:01')
      assert.deepEqual(rig.registers.written('VIRTIO_MMIO_QUEUE_NOTIFY'), [6])
    })

    it('[BASE-INIT-D07] signals none before DRIVER_OK, and then passes on what was kicked before', async () => {
      rig = new NicOverMmio({}, { events: new LocalEvents(), address: 0x1000 })
      const kicks = () => rig.device.queues.slice(0, 4).map(({ kick }) => kick.read())
      const before: bigint[][] = []
      rig.registers.onAccess = ({ what, offset, value = 0 }) => {
        const ready = what === 'write' && offset === VIRTIO_MMIO.VIRTIO_MMIO_STATUS && (value & DRIVER_OK) !== 0
        if (ready) before.push(kicks())
        return undefined
      }
      await start()
      assert.deepEqual(before, [[0n, 0n, 0n, 0n]])
      // The receive rings were filled; nothing was sent.
      assert.deepEqual(kicks(), [1n, 0n, 1n, 0n])
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
