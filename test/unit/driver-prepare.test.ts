// prepare(): a burst filled in one call, with no more than can be sent.

import assert from 'node:assert/strict'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst } from '../../lib/driver/index.ts'
import { openDriverAndDevice } from '../support/driver-and-device.ts'

const LENGTH = VIRTIO_NET_HDR_SIZE + 60

/** Of the ring, and half of the buffers that its pool has. */
const ENTRIES = 8

describe('preparing a burst', () => {
  it('fills it with packets of one buffer each, which are as long as was said and can be sent', () => {
    using pair = openDriverAndDevice()
    const burst = new Burst(5, 7)
    assert.equal(pair.tx.prepare(burst, LENGTH), 5)
    assert.deepEqual([burst.packets, burst.segmentCount], [5, 5])
    assert.deepEqual([...burst.segments], Array(5).fill(1))
    assert.deepEqual([...burst.lengths], [...Array(5).fill(LENGTH), 0, 0])
    assert.equal(new Set(burst.offsets.subarray(0, 5)).size, 5)
    assert.equal(pair.tx.counters().freeBuffers, 2 * ENTRIES - 5)
    assert.equal(pair.tx.send(burst), 5)
  })

  it('takes no more than the ring has room for, once what came back was taken', () => {
    using pair = openDriverAndDevice()
    const burst = new Burst(2 * ENTRIES)
    assert.equal(pair.tx.prepare(burst, LENGTH), ENTRIES)
    assert.equal(pair.tx.send(burst), ENTRIES)
    assert.equal(pair.tx.prepare(burst, LENGTH), 0)
    assert.deepEqual([burst.packets, burst.segmentCount], [0, 0])
    pair.txDevice.spin(3)
    assert.equal(pair.tx.prepare(burst, LENGTH), 3)
    assert.equal(pair.tx.counters().freeBuffers, 2 * ENTRIES - (ENTRIES - 3) - 3)
    assert.equal(pair.tx.send(burst), 3)
  })

  it('takes no more than the pool has, and no more than the burst has segments for', () => {
    using pair = openDriverAndDevice()
    const held = new Uint32Array(2 * ENTRIES - 3)
    assert.equal(pair.tx.allocate(held), held.length)
    assert.equal(pair.tx.prepare(new Burst(4, 2), LENGTH), 2)
    assert.equal(pair.tx.prepare(new Burst(4), LENGTH), 1)
    assert.equal(pair.tx.prepare(new Burst(4), LENGTH), 0)
  })
})
