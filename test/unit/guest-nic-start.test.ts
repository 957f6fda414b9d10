// How a NIC that is driven through registers is initialised, against a small network device: with which features, buffers
// and memory, or not at all.

import assert from 'node:assert/strict'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { GuestNic, type GuestNicOptions, MmioDevice } from '../../lib/driver/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { featureSet, hasFeature } from '../../lib/virtio/index.ts'
import { MEMORY_BASE, NicOverMmio, roundTrip } from '../support/nic-over-mmio.ts'
import { TEST_NIC_CONFIG, TEST_NIC_FEATURES, withoutFeatures } from '../support/virtio-nic.ts'
import { plainRegisters } from '../support/watched-registers.ts'

const { VIRTIO_CONFIG_S_FAILED: FAILED } = VIRTIO_CONFIG_S
const GUEST_TSO4 = featureSet(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4)

describe('a NIC driven through registers is initialised', () => {
  let rig: NicOverMmio

  const make = (options: ConstructorParameters<typeof NicOverMmio>[0] = {}): NicOverMmio => {
    rig = new NicOverMmio(options)
    return rig
  }
  const start = (options: Partial<GuestNicOptions> = {}): Promise<GuestNic> => rig.start(options)

  afterEach(() => rig.close())

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
    const nic = await make({ features: withoutFeatures(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF) }).start()
    assert.equal(nic.features & GUEST_TSO4, 0n)
    const { bufferSize, pool } = nic.pairs[0]!.rx.layout
    assert.ok(bufferSize >= 1526 && pool > 0)
    await rig.close()
    assert.equal((await make().start()).features & GUEST_TSO4, GUEST_TSO4)
  })

  it('[NET-CFG-D07] [NET-CFG-D08] with MTU where it is offered, and buffers for that', async () => {
    const config = Uint8Array.from(TEST_NIC_CONFIG)
    config.set([0x28, 0x23], 10)
    const features = withoutFeatures(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF)
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
    const nic = await make({ features: withoutFeatures(VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ) }).start()
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
    await rig.close()
    const config = Uint8Array.from(TEST_NIC_CONFIG)
    config[8] = 0
    make({ config })
    await assert.rejects(start(), { code: 'ERR_DEVICE_BROKEN' })
  })

  it('and not touched where an option is bad', async () => {
    make()
    const before = rig.registers.log.length
    for (const [options, option] of [
      [{ queueSize: 3 }, 'queueSize'],
      [{ queuePairs: 0 }, 'queuePairs'],
      [{ address: -1 }, 'address'],
      [{ mac: 'none' }, 'mac'],
      [{ memory: new BufferMemory(new ArrayBuffer(8)) as never }, 'memory'],
      [{ more: 1 }, 'more'],
    ] as const) {
      await assert.rejects(start(options as Partial<GuestNicOptions>), { name: 'InvalidOptionError', option })
    }
    // The probe of each try.
    assert.equal(rig.registers.log.length - before, 6 * 3)
    assert.equal(rig.device.status, 0)
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
