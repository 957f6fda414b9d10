// The control queue of a virtio-net device, command by command: what the backend and configuration space show once it is
// answered, and what is refused.

import assert from 'node:assert/strict'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { MAX_COMMAND } from '../../lib/net/control-queue.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import { F, MAC, NetRig, without } from '../support/net-rig.ts'
import { RecordingBackend, SERVED } from '../support/recording-backend.ts'

const address = (text: string): number[] => text.split(':').map((pair) => Number.parseInt(pair, 16))
const le32 = (value: number): number[] => [value, value >> 8, value >> 16, value >> 24].map((byte) => byte & 0xff)
const table = (...macs: string[]): number[] => [...le32(macs.length), ...macs.flatMap(address)]
const le64 = (value: bigint): number[] => Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn))
const offloadsSet = (...places: number[]): number[] => [5, 0, ...le64(featureSet(...places))]

const OTHER = '52:54:00:aa:bb:cc'
const GROUP = '01:00:5e:00:00:fb'

describe('the control queue of a virtio-net device', () => {
  let rig: NetRig

  const up = (options: ConstructorParameters<typeof NetRig>[0] = {}, backend = new RecordingBackend()): void => {
    rig = new NetRig(options, backend).up()
    rig.backend.take()
  }

  /** The command is refused, and nothing has changed. */
  const refused = async (...bytes: number[]): Promise<void> => {
    assert.equal(await rig.command(...bytes), false, `class ${bytes[0]}, command ${bytes[1]}`)
    assert.deepEqual(rig.backend.take(), [])
  }

  afterEach(() => rig.close())

  it('[NET-CTRL-01] [NET-CTRL-03] [RING-USED-02] answers with one byte, whatever room there is', async () => {
    up()
    for (const room of [1, 2, 16]) {
      assert.deepEqual(await rig.send([0, 0, 1], { room }), { ack: 0, length: 1 })
      assert.deepEqual(await rig.send([99, 0, 1], { room }), { ack: 1, length: 1 })
    }
  })

  it('[NET-CTRL-02] refuses commands that do not exist, and the device lives', async () => {
    up()
    const known = new Set(['0 0', '0 1', '1 0', '1 1', '3 0', '5 0'])
    for (let kind = 0; kind < 16; kind++) {
      for (let command = 0; command < 8; command++) {
        if (!known.has(`${kind} ${command}`)) await refused(kind, command, 1)
      }
    }
    await refused(255, 255)
    assert.ok(await rig.command(0, 0, 1))
  })

  it('[NET-CTRL-02] refuses data of any other length than the command has', async () => {
    up({ mq: true }, new RecordingBackend({ queuePairs: 2 }))
    const right = [
      [0, 0, 1],
      [0, 1, 1],
      [1, 0, ...table(), ...table()],
      [1, 1, ...address(OTHER)],
      [3, 0],
      [4, 0, 1, 0],
      offloadsSet(1),
    ]
    for (const bytes of right) {
      for (let length = 0; length < bytes.length; length++) await refused(...bytes.slice(0, length))
      await refused(...bytes, 0)
      assert.ok(await rig.command(...bytes))
      rig.backend.take()
    }
  })

  it('refuses each command whose feature was not agreed on', async () => {
    const features = [F.VIRTIO_NET_F_CTRL_RX, F.VIRTIO_NET_F_CTRL_MAC_ADDR, F.VIRTIO_NET_F_GUEST_ANNOUNCE]
    const more = [F.VIRTIO_NET_F_MQ, F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS]
    rig = new NetRig({ mq: true })
    rig.up({ features: without(rig.guest.offered, ...features, ...more) })
    rig.backend.take()
    await refused(0, 0, 1)
    await refused(0, 1, 1)
    await refused(1, 0, ...table(), ...table())
    await refused(1, 1, ...address(OTHER))
    await refused(3, 0)
    await refused(4, 0, 1, 0)
    await refused(...offloadsSet(1))
    assert.deepEqual(rig.device.stats().commands, { unknown: { ok: 0, err: 7 } })
  })

  const NOT_OFFERED: Readonly<Record<string, readonly number[][]>> = {
    RX_EXTRA: [2, 3, 4, 5].map((command) => [0, command, 1]),
    VLAN: [0, 1].map((command) => [2, command, 5, 0]),
    'RSS and HASH': [1, 2].map((command) => [4, command, ...new Array(64).fill(0)]),
    NOTF_COAL: [0, 1, 2, 3].map((command) => [6, command, ...le32(1), ...le32(1)]),
    STATS: [0, 1].map((command) => [8, command, ...new Array(16).fill(0)]),
  }
  for (const [name, commands] of Object.entries(NOT_OFFERED)) {
    it(`${name} is a command that is not offered, and refused`, async () => {
      up({}, new RecordingBackend({ features: SERVED | featureSet(19, 20, 50, 52, 53, 57, 60) }))
      for (const bytes of commands) await refused(...bytes)
    })
  }

  describe('with receive modes', () => {
    it('[NET-CTRL-RX-01] [NET-CTRL-RX-02] [NET-CTRL-RX-03] turns promiscuity on and off, which wins over the rest', async () => {
      up()
      assert.ok(await rig.command(0, 0, 0))
      assert.deepEqual(rig.backend.filter, { promiscuous: false, allMulticast: false, unicast: [MAC], multicast: [] })
      assert.ok(await rig.command(0, 1, 1))
      assert.ok(await rig.command(0, 0, 1))
      assert.deepEqual(rig.backend.filter, { promiscuous: true, allMulticast: true, unicast: [MAC], multicast: [] })
    })

    it('[NET-CTRL-RX-04] [NET-CTRL-RX-05] turns all multicast on and off', async () => {
      up()
      for (const on of [1, 0]) {
        assert.ok(await rig.command(0, 1, on))
        assert.equal(rig.backend.filter?.allMulticast, on === 1)
      }
    })

    it('refuses what is neither on nor off', async () => {
      up()
      await refused(0, 0, 2)
      await refused(0, 1, 0xff)
    })

    it('[NET-CTRL-MAC-02] [NET-CTRL-MAC-04] has the backend pass what is for the device and its table, before it answers', async () => {
      up()
      assert.ok(await rig.command(0, 0, 0))
      let answered: number | undefined
      rig.backend.before = () => {
        answered = rig.control.usedIdx
      }
      const before = rig.control.usedIdx
      assert.ok(await rig.command(1, 0, ...table(OTHER, MAC), ...table(GROUP)))
      assert.equal(answered, before)
      assert.deepEqual(rig.backend.filter, {
        promiscuous: false,
        allMulticast: false,
        unicast: [MAC, OTHER],
        multicast: [GROUP],
      })
    })

    it('[NET-CTRL-MAC-05] refuses tables that are cut, or longer than they say', async () => {
      up()
      const whole = [...table(OTHER), ...table(GROUP, GROUP)]
      for (let length = 0; length < whole.length; length++) await refused(1, 0, ...whole.slice(0, length))
      await refused(1, 0, ...whole, 0)
      for (const count of [2, 3, 0xffff, 0x2aaa_aaab, 0xffff_ffff]) {
        await refused(1, 0, ...le32(count), ...address(OTHER), ...table())
        await refused(1, 0, ...table(OTHER), ...le32(count), ...address(GROUP))
      }
    })

    it('takes tables of thousands, and refuses what nobody has', async () => {
      up()
      const many = Array.from(
        { length: 10_000 },
        (_, i) => `52:54:00:00:${(i >> 8).toString(16)}:${(i & 0xff).toString(16)}`,
      )
      assert.ok(await rig.command(1, 0, ...table(...many), ...table()))
      assert.equal(rig.backend.filter?.unicast.length, 10_001)
      rig.backend.take()
      assert.equal((await rig.send([1, 0, ...new Array(MAX_COMMAND).fill(0)])).ack, 1)
      assert.deepEqual(rig.backend.take(), [])
    })

    it('[NET-CTRL-MAC-01] is as at first after a reset', async () => {
      up()
      assert.ok(await rig.command(0, 0, 0))
      assert.ok(await rig.command(1, 0, ...table(OTHER), ...table(GROUP)))
      rig.up()
      assert.deepEqual(rig.backend.filter, { promiscuous: true, allMulticast: false, unicast: [], multicast: [] })
      assert.ok(await rig.command(0, 0, 0))
      assert.deepEqual(rig.backend.filter, { promiscuous: false, allMulticast: false, unicast: [MAC], multicast: [] })
    })

    it('refuses what the backend cannot do, says why, and keeps what was', async () => {
      up()
      const modes = rig.device.inspect().rxModes
      rig.backend.before = () => {
        throw new Error('no filter today')
      }
      assert.equal(await rig.command(0, 0, 0), false)
      assert.equal(await rig.command(1, 1, ...address(OTHER)), false)
      assert.deepEqual(rig.device.inspect().rxModes, modes)
      assert.equal(rig.configMac, MAC)
      assert.equal(rig.device.inspect().lastCommandError, 'MAC_ADDR_SET: no filter today')
      assert.deepEqual(rig.device.stats().commands, {
        RX_PROMISC: { ok: 0, err: 1 },
        MAC_ADDR_SET: { ok: 0, err: 1 },
      })
    })
  })

  describe('with an address', () => {
    it('[NET-CTRL-MAC-03] shows it in configuration space before it answers, and receives what is sent to it', async () => {
      up()
      assert.ok(await rig.command(0, 0, 0))
      assert.ok(await rig.command(1, 1, ...address(OTHER)))
      assert.equal(rig.configMac, OTHER)
      assert.deepEqual(rig.backend.filter?.unicast, [OTHER])
      assert.equal(rig.device.inspect().mac, OTHER)
    })

    it('refuses one that no station has', async () => {
      up()
      for (const mac of [GROUP, 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00']) await refused(1, 1, ...address(mac))
      assert.equal(rig.configMac, MAC)
    })

    it('has its own again after a reset', async () => {
      up()
      assert.ok(await rig.command(1, 1, ...address(OTHER)))
      rig.guest.write('VIRTIO_MMIO_STATUS', 0)
      assert.equal(rig.configMac, MAC)
    })
  })

  describe('with guest offloads', () => {
    it('[NET-CTRL-GOFF-01] has all on that were agreed on, for each driver anew', async () => {
      up()
      const all = featureSet(1, 7, 8, 9, 54, 55, 65, 66)
      assert.equal(rig.backend.configs[0]?.offloads, all)
      assert.ok(await rig.command(...offloadsSet()))
      rig.up()
      assert.deepEqual(rig.backend.take().slice(0, 2), ['offloads 0x0', 'stop 0 tx'])
      assert.equal(rig.backend.configs[0]?.offloads, all)
    })

    it('[NET-CTRL-GOFF-02] replaces the whole state, of pairs that start later, too', async () => {
      up({}, new RecordingBackend({ queuePairs: 2 }))
      assert.ok(await rig.command(...offloadsSet(1, 7)))
      assert.ok(await rig.command(...offloadsSet(1, 8)))
      assert.deepEqual(rig.backend.take(), ['offloads 0x82', 'offloads 0x102'])
      assert.deepEqual(rig.device.inspect().offloads, ['VIRTIO_NET_F_GUEST_CSUM', 'VIRTIO_NET_F_GUEST_TSO6'])
      assert.ok(await rig.command(4, 0, 2, 0))
      assert.equal(rig.backend.configs[1]?.offloads, featureSet(1, 8))
    })

    it('[NET-CTRL-GOFF-03] refuses offloads not agreed on, not there, or without what they need', async () => {
      rig = new NetRig()
      rig.up({ features: without(rig.guest.offered, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN) })
      rig.backend.take()
      for (const place of [0, 2, 9, 10, 11, 32, 45, 48, 57, 61, 63]) await refused(...offloadsSet(1, 7, place))
      await refused(...offloadsSet(7))
      await refused(...offloadsSet(1, 46))
      assert.ok(await rig.command(...offloadsSet(1, 7)))
    })

    it('[NET-CTRL-GOFF-04] knows UDP tunnels by places of their own', async () => {
      up()
      assert.ok(await rig.command(...offloadsSet(1, 7, 8, 54, 55, 46, 47)))
      assert.deepEqual(rig.backend.take(), [`offloads 0x${featureSet(1, 7, 8, 54, 55, 65, 66).toString(16)}`])
    })
  })
})
