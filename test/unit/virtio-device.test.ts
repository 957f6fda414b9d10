// A virtio device without its transport: what its driver may do when, what the device type hears of it, and that a queue
// served in this process leaves others their time.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { BufferMemory, GuestMemory, NativeMemory } from '../../lib/memory/index.ts'
import { MAX_DESCRIPTORS } from '../../lib/virtio/descriptors.ts'
import { type DeviceFault, featureSet } from '../../lib/virtio/index.ts'
import { MAX_BUFFERS } from '../../lib/virtio/queue-service.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { soon } from '../support/soon.ts'
import { NEEDED, NEEDY, RNG_FEATURES, VirtioRng } from '../support/virtio-rng.ts'

const ALL_STEPS = 0x0f
const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S
const VERSION_1 = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1)
const POOL = 0x8000

describe('a virtio device', () => {
  let buffer: ArrayBuffer
  let device: VirtioRng

  const make = (options: ConstructorParameters<typeof VirtioRng>[1] = {}) => {
    device = new VirtioRng(new BufferMemory(buffer), options)
    return device
  }
  /** Up to where queues may be set up. */
  const agree = (features = VERSION_1): void => {
    device.writeStatus(3)
    for (let select = 0; select < 4; select++) {
      device.acceptFeatureWord(select, Number((features >> BigInt(32 * select)) & 0xffff_ffffn))
    }
    device.writeStatus(0x0b)
    assert.equal(device.status, 0x0b)
  }
  const enable = (index: number, ring: GuestRing): void => {
    const queue = device.queues[index]!
    queue.size = ring.num
    for (const part of ['desc', 'avail', 'used'] as const) queue.setAddress(part, 0, ring[part])
    device.enableQueue(queue)
    assert.ok(queue.ready)
  }

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
  })

  afterEach(() => device.close())

  it('[BASE-RSVD-01] offers VERSION_1 whatever it was made with, and nothing without what that needs', () => {
    assert.equal(make({ features: 0n }).offered, VERSION_1)
    device.close()
    assert.equal(make({ features: featureSet(NEEDY) }).offered, VERSION_1)
    device.close()
    assert.equal(make({ features: featureSet(NEEDY, NEEDED) }).offered, VERSION_1 | featureSet(NEEDY, NEEDED))
  })

  it('refuses a queue size that no ring has, and leaves no eventfd behind', () => {
    make()
    for (const size of [0, 3, 65536]) {
      const options = { queueSizes: [8, size] }
      assert.throws(() => new VirtioRng(device.memory, options), { code: 'ERR_OPTION_RANGE', option: 'queueSizes[1]' })
    }
  })

  it('starts queues by ascending index when the driver is ready, and stops them the other way round', () => {
    make({ queueSizes: [8, 8, 8] })
    agree()
    enable(2, new GuestRing(buffer, 0x2000, 8))
    enable(0, new GuestRing(buffer, 0x1000, 8))
    assert.deepEqual(device.log, [])
    device.writeStatus(ALL_STEPS)
    assert.deepEqual(device.log.splice(0), ['activate', 'start 0', 'start 2'])
    enable(1, new GuestRing(buffer, 0x3000, 8))
    assert.deepEqual(device.log.splice(0), ['start 1'])
    device.disableQueue(device.queues[0]!)
    assert.deepEqual(device.log.splice(0), ['stop 0'])
    device.reset()
    assert.deepEqual(device.log.splice(0), ['stop 1', 'stop 2', 'deactivate'])
    device.reset()
    assert.deepEqual(device.log, [])
  })

  it('stops when the driver gives up, and starts again only after a reset', () => {
    make()
    agree()
    device.writeStatus(ALL_STEPS)
    device.writeStatus(0x8f)
    device.writeStatus(0xff)
    assert.deepEqual(device.log, ['activate', 'deactivate'])
    device.writeStatus(0)
    agree()
    device.writeStatus(ALL_STEPS)
    assert.equal(device.log.at(-1), 'activate')
  })

  for (const failing of ['activate', 'start 0', 'start 1']) {
    it(`needs a reset where ${failing} fails, with all undone that was done, and works after it`, async () => {
      make({ queueSizes: [8, 8] })
      const faults: DeviceFault[] = []
      device.on('fault', (fault) => faults.push(fault))
      const error = new Error('no more')
      device.onHook = (hook) => {
        if (hook === failing) throw error
      }
      const up = () => {
        agree()
        enable(0, new GuestRing(buffer, 0x1000, 8))
        enable(1, new GuestRing(buffer, 0x2000, 8))
        device.writeStatus(ALL_STEPS)
      }
      up()
      assert.equal(device.status, ALL_STEPS | NEEDS_RESET)
      const done = ['activate', 'start 0', 'start 1']
      const undo = { activate: [], 'start 0': ['deactivate'], 'start 1': ['stop 0', 'deactivate'] }[failing]!
      assert.deepEqual(device.log.splice(0), [...done.slice(0, done.indexOf(failing) + 1), ...undo])
      assert.deepEqual(faults, [])
      await setImmediate()
      const queue = failing === 'activate' ? undefined : Number(failing.at(-1))
      assert.deepEqual(faults, [{ cause: 'device', queue, message: 'no more', error }])
      device.onHook = undefined
      device.writeStatus(0)
      up()
      assert.equal(device.status, ALL_STEPS)
      assert.deepEqual(device.log, done)
    })
  }

  it('keeps the first cause of a fault, and forgets it with the reset', async () => {
    make()
    let faults = 0
    device.on('fault', () => faults++)
    device.fault(new Error('first'), device.queues[0])
    device.fault(new Error('second'))
    assert.deepEqual(device.inspect().fault, { cause: 'device', queue: 0, message: 'first' })
    device.reset()
    assert.equal(device.inspect().fault, null)
    await setImmediate()
    assert.equal(faults, 1)
  })

  it('shows what it is, JSON-safe, with the driver’s own values', () => {
    make({ names: { RNG_F_NEEDED: NEEDED } })
    device.writeStatus(3)
    device.acceptFeatureWord(0, 1)
    const state = device.inspect()
    assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
    assert.deepEqual(state.status, ['ACKNOWLEDGE', 'DRIVER'])
    assert.deepEqual(state.features.accepted, ['RNG_F_NEEDED'])
    assert.deepEqual(state.features.offered, [
      'RNG_F_NEEDED',
      'VIRTIO_RING_F_INDIRECT_DESC',
      'VIRTIO_RING_F_EVENT_IDX',
      'VIRTIO_F_VERSION_1',
      'VIRTIO_F_RING_RESET',
      `bit ${NEEDY}`,
    ])
    assert.deepEqual(state.queues, [
      { index: 0, sizeMax: 8, size: 8, desc: '0x0', avail: '0x0', used: '0x0', ready: false },
    ])
  })

  it('keeps the memory under an enabled ring from being removed', () => {
    const memory = GuestMemory.allocate({ regions: [{ guestAddress: 0, size: 0x2000 }] })
    device = new VirtioRng(memory)
    try {
      agree()
      enable(0, { desc: 0, avail: 0x400, used: 0x800, num: 8 } as GuestRing)
      assert.throws(() => memory.removeRegion(0), { code: 'ERR_GPA_IN_USE' })
      device.reset()
      assert.ok(memory instanceof NativeMemory)
      assert.deepEqual(memory.inspect().pins, [])
    } finally {
      device.close()
      memory.close()
    }
  })

  describe('that serves a queue', () => {
    const { now } = performance

    // A turn is to end for what was done in it, not for the time that this machine took.
    beforeEach(() => {
      performance.now = () => 0
    })

    afterEach(() => {
      performance.now = now
    })

    const serveOn = (ring: GuestRing, features = VERSION_1 | RNG_FEATURES) => {
      make({ queueSizes: [1024] })
      agree(features)
      enable(0, ring)
      device.writeStatus(ALL_STEPS)
    }

    it('handles 64 buffers a turn, and the rest in turns of their own', async () => {
      const ring = new GuestRing(buffer, 0, 256)
      ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
      ring.offer(...new Array<number>(200).fill(0))
      serveOn(ring)
      assert.equal(device.served, 0)
      const after: number[] = []
      while (device.served < 200) {
        await setImmediate()
        if (device.served !== after.at(-1)) after.push(device.served)
      }
      assert.deepEqual(after, [MAX_BUFFERS, 2 * MAX_BUFFERS, 3 * MAX_BUFFERS, 200])
      assert.equal(ring.usedIdx, 200)
    })

    it('begins no buffer in a turn that has followed enough descriptors', async () => {
      const ring = new GuestRing(buffer, 0, 16)
      ring.indirect(
        Array.from({ length: 600 }, () => ({ address: POOL, length: 1, deviceWrites: true })),
        0x9000,
      )
      ring.offer(0, 0, 0, 0, 0)
      serveOn(ring)
      const after: number[] = []
      while (device.served < 5) {
        await setImmediate()
        if (device.served !== after.at(-1)) after.push(device.served)
      }
      // Each has 601: two are more than enough.
      assert.ok(2 * 601 >= MAX_DESCRIPTORS)
      assert.deepEqual(after, [2, 4, 5])
    })

    it('leaves others their time while its driver never pauses', async () => {
      const ring = new GuestRing(buffer, 0, 256)
      ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
      ring.offer(...new Array<number>(256).fill(0))
      serveOn(ring)
      // As a second thread would: for each that is served there is another one.
      device.onServe = () => ring.offer(0)
      let most = 0
      for (let turn = 0, before = 0; turn < 200; turn++) {
        await setImmediate()
        most = Math.max(most, device.served - before)
        before = device.served
      }
      assert.equal(most, MAX_BUFFERS)
      assert.ok(device.served >= 100 * MAX_BUFFERS, `${device.served} served`)
    })

    it('goes on at a kick, with EVENT_IDX and without', async () => {
      for (const features of [VERSION_1, VERSION_1 | RNG_FEATURES]) {
        const ring = new GuestRing(buffer, 0, 8)
        ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
        serveOn(ring, features)
        // Once it asks for kicks, it is idle.
        await setImmediate()
        await setImmediate()
        for (let i = 1; i <= 20; i++) {
          ring.offer(0)
          device.notify(0)
          await soon(`buffer ${i}`, () => ring.usedIdx === i)
        }
        device.close()
      }
    })

    it('returns what it served before a fault, interrupts for it, and serves nothing behind it', async () => {
      const ring = new GuestRing(buffer, 0, 8)
      ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
      ring.offer(0, 7, 0)
      ring.describe(7, { address: 2n ** 40n, length: 1 })
      serveOn(ring)
      await soon('the fault', () => device.inspect().fault !== null)
      assert.deepEqual(device.inspect().fault, {
        cause: 'outside-memory',
        queue: 0,
        message: '[0x10000000000, +0x1) is not guest memory',
      })
      assert.deepEqual([device.served, ring.usedIdx, device.queues[0]!.call.read()], [1, 1, 1n])
    })

    it('needs a reset where serving throws, and keeps what was thrown', async () => {
      const ring = new GuestRing(buffer, 0, 8)
      ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
      ring.offer(0)
      serveOn(ring)
      device.onServe = () => {
        throw new TypeError('a mistake')
      }
      const fault = await new Promise<DeviceFault>((resolve) => device.once('fault', resolve))
      assert.ok(fault.error instanceof TypeError)
      assert.deepEqual([fault.cause, fault.queue, ring.usedIdx], ['device', 0, 0])
    })

    it('[BASE-RESET-03] [BASE-RESET-02] touches no memory and tells nothing once it was reset, whatever was waiting', async () => {
      const ring = new GuestRing(buffer, 0, 256)
      ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
      serveOn(ring)
      await setImmediate()
      ring.offer(...new Array<number>(200).fill(0))
      device.notify(0)
      await soon('the first turn', () => device.served > 0)
      assert.ok(device.served < 200)
      device.queues[0]!.call.read()
      device.writeStatus(0)
      const before = new Uint8Array(buffer.slice(0))
      ring.offer(0)
      const after = new Uint8Array(buffer.slice(0))
      device.notify(0)
      device.queues[0]!.kick.signal()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.notDeepEqual(after, before)
      assert.deepEqual(new Uint8Array(buffer), after)
      assert.deepEqual([device.status, device.queues[0]!.call.read()], [0, 0n])
    })

    it('does not return the buffer in hand where serving it resets the device', async () => {
      const ring = new GuestRing(buffer, 0, 8)
      ring.chain([{ address: POOL, length: 1, deviceWrites: true }])
      ring.offer(0, 0)
      serveOn(ring)
      device.onServe = () => device.writeStatus(0)
      await soon('the reset', () => device.status === 0)
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.deepEqual([device.served, ring.usedIdx, device.queues[0]!.call.read()], [1, 0, 0n])
    })
  })
})
