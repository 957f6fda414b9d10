// The options of a virtio-net device, and its configuration space as a driver reads it.

import assert from 'node:assert/strict'
import { VIRTIO_MMIO, VIRTIO_MMIO_INT } from '../../lib/abi/virtio-mmio.ts'
import { InvalidOptionError } from '../../lib/errors.ts'
import { VirtioNet } from '../../lib/index.ts'
import { BufferMemory, GuestMemory } from '../../lib/memory/index.ts'
import { VirtioNetDevice } from '../../lib/net/index.ts'
import { F, MAC, NetRig, without } from '../support/net-rig.ts'
import { RecordingBackend } from '../support/recording-backend.ts'

const LINK_UP = 1
const ANNOUNCE = 2

describe('options of a virtio-net device', () => {
  const refuse = (options: object, code: string, option: string): void => {
    const backend = new RecordingBackend()
    const memory = new BufferMemory(new ArrayBuffer(4096))
    assert.throws(
      () => new VirtioNetDevice({ memory, backend, ...options }),
      (error: unknown) => error instanceof InvalidOptionError && error.code === code && error.option === option,
      JSON.stringify(options),
    )
    assert.equal(backend.listenerCount('fault'), 0)
  }

  it('are refused where they have the wrong type, do not exist, or are out of range', () => {
    refuse({ mac: 5 }, 'ERR_OPTION_TYPE', 'mac')
    for (const mac of ['', '52:54:00:12:34', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00']) {
      refuse({ mac }, 'ERR_OPTION_RANGE', 'mac')
    }
    for (const host_mtu of [0, 67, 65536, 1500.5]) refuse({ host_mtu }, 'ERR_OPTION_RANGE', 'host_mtu')
    for (const speed of [-1, 2 ** 31]) refuse({ speed }, 'ERR_OPTION_RANGE', 'speed')
    refuse({ duplex: 'both' }, 'ERR_OPTION_RANGE', 'duplex')
    for (const size of [0, 128, 300, 2048]) {
      refuse({ rx_queue_size: size }, 'ERR_OPTION_RANGE', 'rx_queue_size')
      refuse({ tx_queue_size: size }, 'ERR_OPTION_RANGE', 'tx_queue_size')
    }
    refuse({ csum: 'on' }, 'ERR_OPTION_TYPE', 'csum')
    refuse({ mrg_rxbuf: false }, 'ERR_OPTION_RANGE', 'mrg_rxbuf')
    refuse({ queues: 4 }, 'ERR_OPTION_UNKNOWN', 'queues')
  })

  it('are refused before a backend is opened', async () => {
    using memory = GuestMemory.allocate({ size: 4096 })
    const open = (options: object) => VirtioNet.open({ memory, backend: { tap: { ifname: 'x0' } }, ...options })
    await assert.rejects(open({ host_mtu: 5 }), { code: 'ERR_OPTION_RANGE', option: 'host_mtu' })
    await assert.rejects(open({ queues: 4 }), { code: 'ERR_OPTION_UNKNOWN', option: 'queues' })
    await assert.rejects(open({ backend: { memory } }), { code: 'ERR_OPTION_UNKNOWN', option: 'backend.memory' })
    await assert.rejects(open({ backend: {} }), { code: 'ERR_OPTION_TYPE', option: 'tap' })
    await assert.rejects(open({ backend: { tap: 'x0' }, host_mtu: 1500 }), { code: 'ERR_OPTION_TYPE', option: 'tap' })
    await assert.rejects(open({ host_mtu: 65_522 }), { code: 'ERR_OPTION_RANGE', option: 'tap.mtu' })
    await assert.rejects(open({ queuePairs: 0 }), { code: 'ERR_OPTION_RANGE', option: 'queuePairs' })
  })
})

describe('configuration space of a virtio-net device', () => {
  let rig: NetRig | undefined

  const make = (options: ConstructorParameters<typeof NetRig>[0] = {}, queuePairs = 1): NetRig => {
    rig?.close()
    rig = new NetRig(options, new RecordingBackend({ queuePairs }))
    return rig
  }

  afterEach(() => {
    rig?.close()
    rig = undefined
  })

  it('has the address given, or one of its own', () => {
    assert.equal(make().configMac, MAC)
    const backend = new RecordingBackend()
    const devices = [1, 2].map(() => new VirtioNetDevice({ memory: new BufferMemory(new ArrayBuffer(4096)), backend }))
    const macs = devices.map((device) => device.inspect().mac)
    for (const device of devices) device.close()
    for (const mac of macs) assert.match(mac, /^52:54:00(:[0-9a-f]{2}){3}$/)
    assert.notEqual(macs[0], macs[1])
  })

  it('[NET-CFG-01] has as many pairs as the backend', () => {
    for (const pairs of [1, 2, 256]) {
      assert.equal(make({ mq: true }, pairs).configField('max_virtqueue_pairs', 2), pairs)
    }
  })

  it('[NET-CFG-02] [NET-CFG-03] has the MTU given, and does not offer one else', () => {
    for (const host_mtu of [68, 1280, 1500, 65535]) {
      make({ host_mtu })
      assert.ok(rig!.guest.offered & (1n << BigInt(F.VIRTIO_NET_F_MTU)))
      assert.equal(rig!.configField('mtu', 2), host_mtu)
    }
    make()
    assert.equal(rig!.guest.offered & (1n << BigInt(F.VIRTIO_NET_F_MTU)), 0n)
    assert.equal(rig!.configField('mtu', 2), 0)
  })

  it('[NET-CFG-10] [NET-CFG-11] has speed and duplex as Linux has them, or unknown', () => {
    const read = (): number[] => [rig!.configField('speed', 4), rig!.configField('duplex', 1)]
    const offered = (): boolean => (rig!.guest.offered & (1n << BigInt(F.VIRTIO_NET_F_SPEED_DUPLEX))) !== 0n
    make({ speed: 2 ** 31 - 1, duplex: 'full' })
    assert.deepEqual([...read(), offered()], [0x7fff_ffff, 1, true])
    make({ speed: 0, duplex: 'half' })
    assert.deepEqual([...read(), offered()], [0, 0, true])
    make({ speed: 10_000 })
    assert.deepEqual([...read(), offered()], [10_000, 0xff, true])
    make({ duplex: 'full' })
    assert.deepEqual([...read(), offered()], [0xffff_ffff, 1, true])
    make()
    assert.deepEqual([...read(), offered()], [0, 0, false])
  })

  it('[NET-CFG-04] [NET-CFG-12] [NET-CFG-15] changes by nothing that a driver writes, nor by resets and the link', () => {
    make({ host_mtu: 9000, speed: 1000, duplex: 'full' }, 4)
    const all = (): number[] => Array.from({ length: 0x20 }, (_, i) => rig!.transport.read(0x100 + i, 1))
    const before = all()
    rig!.up()
    for (let i = 0; i < 0x20; i++) rig!.transport.write(VIRTIO_MMIO.VIRTIO_MMIO_CONFIG + i, 1, 0xaa)
    assert.deepEqual(all(), before)
    rig!.device.setLink(false)
    rig!.device.setLink(true)
    rig!.guest.write('VIRTIO_MMIO_STATUS', 0)
    assert.deepEqual(all(), before)
  })

  it('can be read before features are agreed on, by what is offered', () => {
    make({ host_mtu: 1500, status: false })
    rig!.guest.begin()
    assert.equal(rig!.configField('mtu', 2), 1500)
    assert.equal(rig!.configField('status', 2), 0, 'without STATUS there is none')
  })

  it('shows the link, and interrupts the driver when that changes', () => {
    make().up()
    assert.equal(rig!.configField('status', 2), LINK_UP)
    rig!.interrupts.take()
    rig!.device.setLink(true)
    assert.equal(rig!.interrupts.take(), 0)
    for (const up of [false, true]) {
      const before = rig!.guest.read('VIRTIO_MMIO_CONFIG_GENERATION')
      rig!.device.setLink(up)
      assert.equal(rig!.configField('status', 2), up ? LINK_UP : 0)
      assert.notEqual(rig!.guest.read('VIRTIO_MMIO_CONFIG_GENERATION'), before)
      assert.equal(rig!.guest.handleInterrupt() & VIRTIO_MMIO_INT.VIRTIO_MMIO_INT_CONFIG, 2)
      assert.ok(rig!.interrupts.take() >= 1)
    }
  })

  it('shows a link that was pulled before the driver came, and after it was reset', () => {
    make()
    rig!.device.setLink(false)
    rig!.up()
    assert.equal(rig!.configField('status', 2), 0)
    rig!.guest.write('VIRTIO_MMIO_STATUS', 0)
    assert.equal(rig!.configField('status', 2), 0)
  })

  describe('asks for an announcement', () => {
    const able = [F.VIRTIO_NET_F_GUEST_ANNOUNCE, F.VIRTIO_NET_F_STATUS]

    it('[NET-CTRL-ANN-01] until the driver acknowledges it, and shows that before the command is answered', async () => {
      make().up()
      rig!.interrupts.take()
      assert.equal(rig!.device.announce(), true)
      assert.equal(rig!.configField('status', 2), LINK_UP | ANNOUNCE)
      assert.equal(rig!.interrupts.take(), 1)
      assert.equal(rig!.device.announce(), true)
      assert.equal(rig!.interrupts.take(), 0, 'the driver has been asked already')
      assert.ok(await rig!.command(3, 0))
      assert.equal(rig!.configField('status', 2), LINK_UP)
    })

    it('until a reset', () => {
      make().up()
      rig!.device.announce()
      rig!.guest.write('VIRTIO_MMIO_STATUS', 0)
      assert.equal(rig!.configField('status', 2), LINK_UP)
    })

    it('of no driver that does not know of it, or is not there', () => {
      make()
      assert.equal(rig!.device.announce(), false)
      for (const bit of able) {
        rig!.up({ features: without(rig!.guest.offered, bit) })
        assert.equal(rig!.device.announce(), false)
        assert.equal(rig!.device.inspect().link.announcing, false)
      }
      const { offered } = make({ status: false }).guest
      assert.equal(offered & (1n << BigInt(F.VIRTIO_NET_F_GUEST_ANNOUNCE)), 0n)
    })
  })

  it('is shown decoded, and JSON-safe', () => {
    make({ host_mtu: 1500 }, 2).up()
    rig!.device.setLink(false)
    const state = rig!.device.inspect()
    assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
    const { mac, link, mtu, controlQueue, rxModes, pairs } = state
    assert.deepEqual(
      { mac, link, mtu, controlQueue },
      { mac: MAC, link: { up: false, announcing: false }, mtu: 1500, controlQueue: 4 },
    )
    assert.equal(rxModes.promiscuous, true)
    assert.deepEqual(pairs[1], { pair: 1, active: false, rings: ['rx', 'tx'], running: false })
  })
})
