// Commands of a driver on the control queue, and the ring that they go through.

import assert from 'node:assert/strict'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { COMMAND_MAX, COMMAND_RING_SIZE, CommandRing } from '../../lib/driver/command-ring.ts'
import type { ControlQueue, GuestNic, RxMode } from '../../lib/driver/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { featureSet, SplitRing } from '../../lib/virtio/index.ts'
import { NicOverMmio } from '../support/nic-over-mmio.ts'
import { TEST_NIC_FEATURES, withoutFeatures } from '../support/virtio-nic.ts'

const MAC_1 = '52:54:00:00:00:01'
const MAC_2 = '52:54:00:00:00:02'
const GROUP = '33:33:00:00:00:01'

describe('a driver’s control queue', () => {
  let rig: NicOverMmio
  let nic: GuestNic
  let control: ControlQueue

  const open = async (features = TEST_NIC_FEATURES): Promise<void> => {
    rig = new NicOverMmio({ features })
    nic = await rig.start({ queuePairs: 3 })
    control = nic.control!
  }
  /** The only command that the device has seen. */
  const seen = (): number[] => {
    assert.equal(rig.device.commands.length, 1)
    return rig.device.commands.pop()!
  }

  afterEach(() => rig.close())

  it('[RING-FRAME-D01] has in each chain what the device reads in front of what it writes', async () => {
    await open()
    const sizes: number[][] = []
    rig.device.onControl = ({ descriptors, readable, writable }) => sizes.push([descriptors, readable, writable])
    await control.setMac(MAC_1)
    assert.deepEqual(sizes, [[2, 8, 1]])
  })

  describe('sends', () => {
    beforeEach(() => open())

    const modes: readonly [RxMode, number][] = [
      ['promisc', 0],
      ['allmulti', 1],
      ['alluni', 2],
      ['nomulti', 3],
      ['nouni', 4],
      ['nobcast', 5],
    ]
    for (const [mode, command] of modes) {
      it(`the receive mode ${mode}, on and off`, async () => {
        await control.setRxMode(mode, true)
        assert.deepEqual(seen(), [0, command, 1])
        await control.setRxMode(mode, false)
        assert.deepEqual(seen(), [0, command, 0])
      })
    }

    it('[NET-CTRL-MAC-D03] the table of addresses: unicast and multicast, each with its number in front', async () => {
      await control.setMacTable([MAC_1, MAC_2], [GROUP])
      assert.deepEqual(seen(), [
        ...[1, 0],
        ...[2, 0, 0, 0, 0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2],
        ...[1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 1],
      ])
      await control.setMacTable([], [])
      assert.deepEqual(seen(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    })

    it('a table as long as the ring has room for, and no longer', async () => {
      const most = Math.floor((COMMAND_MAX - 10) / 6)
      await control.setMacTable(new Array<string>(most).fill(MAC_1), [])
      assert.equal(seen().length, 10 + 6 * most)
      await assert.rejects(control.setMacTable(new Array<string>(most + 1).fill(MAC_1), []), {
        code: 'ERR_OPTION_RANGE',
      })
      assert.deepEqual(rig.device.commands, [])
    })

    it('its address', async () => {
      await control.setMac('52:54:00:AB:cd:ef')
      assert.deepEqual(seen(), [1, 1, 0x52, 0x54, 0, 0xab, 0xcd, 0xef])
    })

    it('the number of pairs', async () => {
      await control.setQueuePairs(0x102)
      assert.deepEqual(seen(), [4, 0, 2, 1])
    })

    it('the offloads of receiving, by feature bit', async () => {
      const offloads = featureSet(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4)
      await control.setGuestOffloads(offloads)
      assert.deepEqual(seen(), [5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0])
    })

    it('that it announced itself', async () => {
      await control.acknowledgeAnnounce()
      assert.deepEqual(seen(), [3, 0])
    })

    it('one command after the other, in the order of the calls, whatever the device says of the first', async () => {
      rig.device.answers.push(1)
      const results = await Promise.allSettled([control.setMac(MAC_1), control.setQueuePairs(2), control.setMac(MAC_2)])
      assert.deepEqual(
        results.map(({ status }) => status),
        ['rejected', 'fulfilled', 'fulfilled'],
      )
      assert.deepEqual(
        rig.device.commands.map(([commandClass, , ...data]) => [commandClass, data.at(-1)]),
        [
          [1, 1],
          [4, 0],
          [1, 2],
        ],
      )
      for (let i = 0; i < 70; i++) await control.setQueuePairs(1)
    })
  })

  describe('refuses', () => {
    for (const [ids, bit, modes] of [
      ['[NET-CTRL-RX-D01]', VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX, ['promisc', 'allmulti']],
      ['[NET-CTRL-RX-D02]', VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX_EXTRA, ['alluni', 'nomulti', 'nouni', 'nobcast']],
    ] as const) {
      it(`${ids} ${modes.join(', ')} without their feature, and sends nothing`, async () => {
        await open(withoutFeatures(bit))
        for (const mode of modes) await assert.rejects(control.setRxMode(mode, true), { code: 'ERR_FEATURE_MISSING' })
        assert.deepEqual(rig.device.commands, [])
      })
    }

    const rows: readonly [ids: string, what: string, bit: number, send: () => Promise<void>][] = [
      ['[NET-CTRL-MAC-D01] ', 'a table', VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX, () => control.setMacTable([], [])],
      ['', 'an address', VIRTIO_NET_F.VIRTIO_NET_F_CTRL_MAC_ADDR, () => control.setMac(MAC_1)],
      ['', 'pairs', VIRTIO_NET_F.VIRTIO_NET_F_MQ, () => control.setQueuePairs(1)],
      ['', 'offloads', VIRTIO_NET_F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, () => control.setGuestOffloads(0n)],
      ['', 'an announcement', VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE, () => control.acknowledgeAnnounce()],
    ]
    for (const [ids, what, bit, send] of rows) {
      it(`${ids}${what} without its feature, and sends nothing`, async () => {
        await open(withoutFeatures(bit))
        await assert.rejects(send(), { code: 'ERR_FEATURE_MISSING' })
        assert.deepEqual(rig.device.commands, [])
      })
    }

    it('[NET-CTRL-GOFF-D01] an offload that was not agreed on, and sends nothing', async () => {
      await open()
      for (const bit of [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F.VIRTIO_NET_F_MAC, 99]) {
        await assert.rejects(control.setGuestOffloads(featureSet(bit)), { code: 'ERR_FEATURE_MISSING' })
      }
      assert.deepEqual(rig.device.commands, [])
    })

    it('what is no address or no number of pairs, and sends nothing', async () => {
      await open()
      for (const mac of ['', '52:54:00:00:00', '52:54:00:00:00:0g', '52:54:00:00:00:01:02']) {
        await assert.rejects(control.setMac(mac), { code: 'ERR_OPTION_RANGE', option: 'mac' })
        await assert.rejects(control.setMacTable([MAC_1], [mac]), { option: 'multicast[0]' })
      }
      for (const pairs of [0, 0x8001]) await assert.rejects(control.setQueuePairs(pairs), { code: 'ERR_OPTION_RANGE' })
      assert.deepEqual(rig.device.commands, [])
    })

    it('everything once its NIC is closed, and what waits then', async () => {
      await open()
      const waiting = control.setMac(MAC_1)
      const closed = assert.rejects(waiting, { code: 'ERR_CLOSED' })
      await nic.close()
      await closed
      await assert.rejects(control.setMac(MAC_1), { code: 'ERR_CLOSED' })
    })
  })

  it('works with EVENT_IDX and without', async () => {
    await open(withoutFeatures(VIRTIO_F.VIRTIO_RING_F_EVENT_IDX))
    for (let i = 1; i <= 5; i++) await control.setQueuePairs(i)
    assert.equal(rig.device.commands.length, 5)
    assert.equal(rig.line.count, 0)
  })
})

describe('a ring of commands', () => {
  const command = Uint8Array.of(1, 2, 3)

  const make = (eventIdx: boolean) => {
    const buffer = new ArrayBuffer(2 * COMMAND_RING_SIZE)
    new Uint8Array(buffer).fill(0xee)
    const memory = new BufferMemory(buffer)
    const ring = new CommandRing(memory, COMMAND_RING_SIZE, eventIdx)
    const device = new SplitRing(memory, ring.place, { indirect: false, eventIdx })
    return { ring, device, view: new DataView(buffer) }
  }

  for (const eventIdx of [false, true]) {
    it(`goes round 16 bits, and asks for no call, ${eventIdx ? 'with' : 'without'} EVENT_IDX`, () => {
      const { ring, device, view } = make(eventIdx)
      for (let i = 0; i < 70_000; i++) {
        device.wantKicks()
        assert.equal(ring.send(command), true)
        assert.equal(ring.take(), undefined)
        const chain = device.take()!
        assert.deepEqual(chain.read(10), command)
        chain.write(Uint8Array.of(i & 0xff))
        device.giveBack(chain)
        assert.equal(device.interruptWanted(), false)
        assert.equal(ring.take(), i & 0xff)
      }
      assert.equal(view.getUint16(ring.place.avail, true), eventIdx ? 0 : 1)
    })

    it(`kicks no device that wants no kick, ${eventIdx ? 'with' : 'without'} EVENT_IDX`, () => {
      const { ring, device, view } = make(eventIdx)
      if (eventIdx) view.setUint16(ring.place.used + 4 + 8 * ring.place.num, 5, true)
      else device.refuseKicks()
      assert.equal(ring.send(command), false)
    })
  }

  for (const [what, id, length, idx] of [
    ['another descriptor', 1, 1, 1],
    ['no answer', 0, 0, 1],
    ['more than it was given', 0, 1, 2],
    ['what is behind', 0, 1, 0xffff],
  ] as const) {
    it(`is broken where the device returns ${what}`, () => {
      const { ring, view } = make(false)
      ring.send(command)
      view.setUint32(ring.place.used + 4, id, true)
      view.setUint32(ring.place.used + 8, length, true)
      view.setUint16(ring.place.used + 2, idx, true)
      assert.throws(() => ring.take(), { code: 'ERR_QUEUE_BROKEN' })
    })
  }
})
