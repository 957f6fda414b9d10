// Which queue pairs of a virtio-net device run: by the features agreed on, the rings enabled, the driver's commands and
// the link.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import { F, NetRig, without } from '../support/net-rig.ts'
import { RecordingBackend } from '../support/recording-backend.ts'

const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET, VIRTIO_CONFIG_S_FAILED: FAILED } = VIRTIO_CONFIG_S
const RING_RESET = VIRTIO_F.VIRTIO_F_RING_RESET
const pairsSet = (pairs: number): number[] => [4, 0, pairs, pairs >> 8]
const AT_RESET = ['offloads 0x0', 'filter']

describe('queue pairs of a virtio-net device', () => {
  let rig: NetRig

  const make = (queuePairs: number, options = {}): NetRig => {
    rig = new NetRig(options, new RecordingBackend({ queuePairs }))
    return rig
  }

  afterEach(() => rig.close())

  it('[NET-CTRL-MQ-03] [NET-CTRL-MQ-07] start with the first, and the others wait to be asked for', () => {
    make(4).up()
    assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0'])
    assert.equal(rig.device.inspect().activePairs, 1)
    assert.deepEqual(
      rig.device.inspect().pairs.map(({ active, running }) => [active, running]),
      [
        [true, true],
        [false, false],
        [false, false],
        [false, false],
      ],
    )
  })

  it('run with the bits that the backend serves of those agreed on, and with the rings that the driver described', () => {
    make(2).up({ features: without(rig.guest.offered, F.VIRTIO_NET_F_HOST_UFO) })
    const { features, offloads, rx, tx } = rig.backend.configs[0]!
    assert.equal(features, rig.device.accepted & rig.backend.features)
    assert.equal(offloads, features & featureSet(1, 7, 8, 9, 54, 55, 65, 66))
    for (const [i, vring] of [rx, tx].entries()) {
      const { num, desc, avail, used } = rig.rings[i]!
      const { kick, call } = rig.device.queues[i]!
      assert.deepEqual({ ...vring }, { num, desc, avail, used, kick, call })
    }
  })

  for (const mq of [true, false]) {
    const title = mq ? 'behind all pairs with MQ' : 'behind the first pair without MQ'
    it(`[NET-VQ-01] have the control queue ${title}`, async () => {
      make(3)
      const { offered } = rig.guest
      rig.up({ features: mq ? offered : without(offered, F.VIRTIO_NET_F_MQ) })
      assert.equal(rig.device.inspect().controlQueue, mq ? 6 : 2)
      assert.ok(await rig.command(0, 0, 1))
      assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0', 'filter'])
      rig.guest.write('VIRTIO_MMIO_STATUS', 0)
      rig.up({ features: mq ? without(offered, F.VIRTIO_NET_F_MQ) : offered })
      assert.equal(rig.device.inspect().controlQueue, mq ? 2 : 6, 'it moves with the next driver')
      assert.ok(await rig.command(0, 0, 0))
    })
  }

  it('[NET-VQ-02] come without a control queue where CTRL_VQ was not agreed on', () => {
    make(2)
    const ctrl = [F.VIRTIO_NET_F_CTRL_RX, F.VIRTIO_NET_F_CTRL_MAC_ADDR, F.VIRTIO_NET_F_GUEST_ANNOUNCE]
    rig.up({ features: without(rig.guest.offered, F.VIRTIO_NET_F_CTRL_VQ, F.VIRTIO_NET_F_MQ, ...ctrl) })
    assert.equal(rig.device.inspect().controlQueue, null)
    for (const index of [2, 3, 4, 5]) {
      rig.guest.write('VIRTIO_MMIO_QUEUE_SEL', index)
      assert.equal(rig.guest.read('VIRTIO_MMIO_QUEUE_NUM_MAX'), 0, `queue ${index}`)
    }
  })

  it('are attached from the lowest and detached from the highest on', async () => {
    make(4).up()
    rig.backend.take()
    assert.ok(await rig.command(...pairsSet(4)))
    assert.deepEqual(rig.backend.take(), ['start 1 rx@0 tx@0', 'start 2 rx@0 tx@0', 'start 3 rx@0 tx@0'])
    rig.backend.bases = { rx: 300, tx: 7 }
    assert.ok(await rig.command(...pairsSet(2)))
    assert.deepEqual(rig.backend.take(), ['stop 3 detach', 'stop 2 detach'])
    assert.ok(await rig.command(...pairsSet(2)))
    assert.deepEqual(rig.backend.take(), [])
    assert.ok(await rig.command(...pairsSet(3)))
    assert.deepEqual(rig.backend.take(), ['start 2 rx@300 tx@7'], 'it goes on where it stood')
  })

  it('[NET-CTRL-MQ-04] have stopped before VQ_PAIRS_SET is answered', async () => {
    make(2).up()
    assert.ok(await rig.command(...pairsSet(2)))
    let answered: number | undefined
    rig.backend.before = () => {
      answered = rig.control.usedIdx
    }
    const before = rig.control.usedIdx
    assert.ok(await rig.command(...pairsSet(1)))
    assert.equal(answered, before)
  })

  it('[NET-CTRL-MQ-08] stay as they are where VQ_PAIRS_SET asks for none or for more than there are', async () => {
    make(4).up()
    rig.backend.take()
    for (const pairs of [0, 5, 0x100, 0x8000, 0xffff]) assert.equal(await rig.command(...pairsSet(pairs)), false)
    assert.deepEqual(rig.backend.take(), [])
    assert.equal(rig.device.inspect().activePairs, 1)
  })

  it('stay as they are where one of those asked for cannot start', async () => {
    make(4).up()
    rig.backend.take()
    rig.backend.before = (entry) => {
      if (entry.startsWith('start 3')) throw new Error('no more')
    }
    assert.equal(await rig.command(...pairsSet(4)), false)
    const tried = ['start 1 rx@0 tx@0', 'start 2 rx@0 tx@0', 'start 3 rx@0 tx@0']
    assert.deepEqual(rig.backend.take(), [...tried, 'stop 2 detach', 'stop 1 detach'])
    assert.equal(rig.device.inspect().activePairs, 1)
    assert.equal(rig.device.inspect().lastCommandError, 'MQ_VQ_PAIRS_SET: no more')
    assert.equal(rig.fault, undefined)
  })

  it('whose rings the driver left out start when it enables them', async () => {
    make(3).up({ queues: [0, 1, 2, 4, 5, 6] })
    rig.backend.take()
    assert.ok(await rig.command(...pairsSet(3)))
    assert.deepEqual(rig.backend.take(), ['start 2 rx@0 tx@0'])
    assert.ok(rig.enable(3))
    assert.deepEqual(rig.backend.take(), ['start 1 rx@0 tx@0'])
  })

  it('stop with the reset, which the next driver sees nothing of', async () => {
    make(3).up()
    assert.ok(await rig.command(...pairsSet(3)))
    rig.backend.take()
    rig.backend.bases = { rx: 9, tx: 9 }
    rig.guest.write('VIRTIO_MMIO_STATUS', 0)
    const rings = ['stop 2 tx', 'stop 2 detach', 'stop 1 tx', 'stop 1 detach', 'stop 0 tx', 'stop 0']
    assert.deepEqual(rig.backend.take(), [...rings, ...AT_RESET])
    rig.up()
    assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0'])
  })

  it('stop all when the driver gives up', async () => {
    make(2).up()
    assert.ok(await rig.command(...pairsSet(2)))
    rig.backend.take()
    rig.guest.addStatus(FAILED)
    assert.deepEqual(rig.backend.take(), ['stop 1 tx', 'stop 1 detach', 'stop 0 tx', 'stop 0', ...AT_RESET])
    const ring = rig.control
    ring.offer(0)
    rig.guest.kick(4)
    await setImmediate()
    await setImmediate()
    assert.equal(ring.usedIdx, 1, 'nor is the control queue served')
  })

  describe('whose ring is reset', () => {
    for (const [index, ring, still] of [
      [0, 'rx', 'tx'],
      [1, 'tx', 'rx'],
    ] as const) {
      it(`go on with ${still}, and ${ring} joins it from its beginning`, () => {
        make(2).up()
        rig.backend.take()
        rig.resetQueue(index)
        assert.deepEqual(rig.backend.take(), [`stop 0 ${ring}`])
        assert.ok(rig.enable(index))
        assert.deepEqual(rig.backend.take(), [`start 0 ${ring}@0`])
      })
    }

    it('stop with the second one, and start with both', () => {
      make(2).up()
      rig.backend.bases = { rx: 5, tx: 6 }
      rig.resetQueue(0)
      rig.resetQueue(1)
      assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0', 'stop 0 rx', 'stop 0'])
      assert.ok(rig.enable(1))
      assert.deepEqual(rig.backend.take(), [])
      assert.ok(rig.enable(0))
      assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0'])
    })

    it('have it back where the backend has no RING_RESET of its own: the bit is the device’s', () => {
      make(1)
      assert.equal(rig.backend.features & featureSet(RING_RESET), 0n)
      assert.equal(rig.device.offered & featureSet(RING_RESET), featureSet(RING_RESET))
    })
  })

  describe('without link', () => {
    it('stop, highest first, and go on where they stood', async () => {
      make(2).up()
      assert.ok(await rig.command(...pairsSet(2)))
      rig.backend.take()
      rig.backend.bases = { rx: 11, tx: 12 }
      rig.device.setLink(false)
      assert.deepEqual(rig.backend.take(), ['stop 1 detach', 'stop 0'])
      rig.device.setLink(false)
      rig.device.setLink(true)
      assert.deepEqual(rig.backend.take(), ['start 0 rx@11 tx@12', 'start 1 rx@11 tx@12'])
    })

    it('do not start, whatever the driver does', async () => {
      make(2)
      rig.device.setLink(false)
      rig.up()
      assert.ok(await rig.command(...pairsSet(2)))
      rig.resetQueue(0)
      assert.ok(rig.enable(0))
      assert.deepEqual(rig.backend.take(), [])
      rig.device.setLink(true)
      assert.deepEqual(rig.backend.take(), ['start 0 rx@0 tx@0', 'start 1 rx@0 tx@0'])
    })

    it('stay so where one cannot start, and whoever plugged it in hears of it', () => {
      make(1).up()
      rig.device.setLink(false)
      rig.backend.before = () => {
        throw new Error('no more')
      }
      assert.throws(() => rig.device.setLink(true), /no more/)
      assert.equal(rig.device.inspect().link.up, false)
      rig.backend.before = undefined
      rig.device.setLink(true)
      assert.equal(rig.backend.running(0), true)
    })
  })

  describe('that fail', () => {
    it('at their start: the device needs a reset, and works after it', async () => {
      make(1)
      rig.backend.before = (entry) => {
        if (entry.startsWith('start')) throw new Error('no more')
      }
      rig.agree()
      for (const index of rig.rings.keys()) assert.ok(rig.enable(index))
      rig.guest.addStatus(4)
      assert.equal(rig.guest.status & NEEDS_RESET, NEEDS_RESET)
      rig.backend.before = undefined
      rig.up()
      assert.ok(await rig.command(0, 0, 1))
    })

    it('at their end: the device needs a reset, and a reset is one', () => {
      make(1).up()
      rig.backend.before = () => {
        throw new Error('gone')
      }
      rig.resetQueue(0)
      assert.equal(rig.guest.status & NEEDS_RESET, NEEDS_RESET)
      rig.guest.write('VIRTIO_MMIO_STATUS', 0)
      assert.equal(rig.guest.status, 0)
      rig.backend.before = undefined
      rig.up()
      assert.equal(rig.fault, undefined)
    })

    it('while they run: the device needs a reset, with the ring as its cause', () => {
      make(2).up()
      rig.backend.emit('fault', { pair: 0, ring: 'tx', errors: 2, cause: 'chain-loop', message: 'it comes again' })
      const { fault } = rig.device.inspect()
      assert.deepEqual([fault?.cause, fault?.queue, fault?.message], ['chain-loop', 1, 'pair 0: it comes again'])
      assert.equal(rig.backend.running(0), false)
      rig.up()
      assert.equal(rig.backend.running(0), true)
    })
  })

  it('stand while the network is gone, of which the guest is told, and which no cable brings back', () => {
    make(2).up()
    rig.backend.emit('gone')
    assert.deepEqual([rig.device.inspect().link.up, rig.backend.running(0)], [false, false])
    assert.equal(rig.guest.status & NEEDS_RESET, 0)
    rig.device.setLink(true)
    assert.deepEqual([rig.device.inspect().link.up, rig.backend.running(0)], [false, false])
    rig.up()
    assert.equal(rig.backend.running(0), false)
  })

  it('go on where they stood once there is a network again, if the cable is in', () => {
    make(2).up()
    rig.backend.bases = { rx: 11, tx: 12 }
    rig.backend.emit('gone')
    rig.backend.take()
    rig.backend.emit('back')
    assert.deepEqual(rig.backend.take(), ['start 0 rx@11 tx@12'])
    assert.equal(rig.device.inspect().link.up, true)
    rig.backend.emit('gone')
    rig.device.setLink(false)
    rig.backend.take()
    rig.backend.emit('back')
    assert.deepEqual([rig.backend.take(), rig.device.inspect().link.up], [[], false])
    rig.device.setLink(true)
    assert.deepEqual(rig.backend.take(), ['start 0 rx@11 tx@12'])
  })

  it('that do not start once there is a network again are a fault', () => {
    make(1).up()
    rig.backend.emit('gone')
    rig.backend.before = () => {
      throw new Error('no more')
    }
    rig.backend.emit('back')
    rig.backend.before = undefined
    assert.equal(rig.fault, 'device')
    assert.equal(rig.guest.status & NEEDS_RESET, NEEDS_RESET)
    rig.up()
    assert.equal(rig.backend.running(0), true)
  })

  describe('of a device that is held', () => {
    it('are held by the backend, once, and commands wait for their answers', async () => {
      make(2).up()
      rig.backend.take()
      rig.device.pause()
      rig.device.pause()
      assert.deepEqual([rig.backend.take(), rig.device.inspect().paused], [['pause'], true])
      const used = rig.control.usedIdx
      const answer = rig.command(...pairsSet(2))
      for (let turns = 0; turns < 10; turns++) await setImmediate()
      assert.equal(rig.control.usedIdx, used)
      assert.deepEqual(rig.backend.take(), [])
      rig.device.resume()
      rig.device.resume()
      assert.equal(await answer, true)
      assert.deepEqual([rig.backend.take(), rig.device.inspect().paused], [['resume', 'start 1 rx@0 tx@0'], false])
    })

    it('come and go with a driver that resets it, whose commands wait, too', async () => {
      make(2).up()
      rig.device.pause()
      rig.up()
      assert.equal(rig.device.inspect().paused, true)
      const answer = rig.command(...pairsSet(2))
      for (let turns = 0; turns < 10; turns++) await setImmediate()
      assert.equal(rig.control.usedIdx, 0)
      assert.equal(rig.backend.running(1), false)
      rig.device.resume()
      assert.equal(await answer, true)
      assert.equal(rig.backend.running(1), true)
    })

    it('stay as they were where they cannot be held, or cannot go on', () => {
      make(1).up()
      let fails = true
      rig.backend.before = (entry) => {
        if (fails && /pause|resume/.test(entry)) throw new Error(`no ${entry}`)
      }
      assert.throws(() => rig.device.pause(), /no pause/)
      assert.equal(rig.device.inspect().paused, false)
      fails = false
      rig.device.pause()
      fails = true
      assert.throws(() => rig.device.resume(), /no resume/)
      assert.equal(rig.device.inspect().paused, true)
      fails = false
      rig.device.resume()
      assert.equal(rig.fault, undefined)
    })

    it('are not those of one that was closed', () => {
      make(1).up()
      rig.device.close()
      for (const operate of [() => rig.device.pause(), () => rig.device.resume()]) {
        assert.throws(operate, { code: 'ERR_CLOSED' })
      }
    })
  })

  it('leave a backend alone that outlives the device', () => {
    make(1).up()
    rig.device.close()
    for (const event of ['fault', 'gone', 'back'] as const) assert.equal(rig.backend.listenerCount(event), 0)
    assert.equal(rig.backend.running(0), false)
    assert.equal(rig.backend.closed, false)
  })
})
