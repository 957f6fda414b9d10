// What the addon itself refuses, whatever TypeScript would have kept from it: handles that are not what it asks for.

import assert from 'node:assert/strict'
import { binding, type NativeFd, type NativeMapping, type NativeRing, systemCall } from '../../lib/binding/index.ts'
import { Teardown } from '../../lib/teardown.ts'

describe('the addon', () => {
  let opened: Teardown
  let mapping: NativeMapping

  beforeEach(() => {
    opened = new Teardown()
    mapping = binding().mmapAnonymous(8192)
    opened.add(() => binding().closeMapping(mapping))
  })

  afterEach(() => opened.run())

  const eventfd = (): NativeFd => {
    const fd = binding().eventfdCreate()
    opened.add(() => binding().closeFd(fd))
    return fd
  }

  function ringOf(kick: NativeFd): NativeRing {
    const ring = binding().ringCreate({
      mapping,
      guestAddress: 0,
      num: 2,
      desc: 0,
      avail: 64,
      used: 128,
      indirectTables: 0,
      pool: 4096,
      bufferSize: 1024,
      bufferCount: 4,
      maxSegments: 1,
      vnetHdrLen: 12,
      deviceWrites: false,
      eventIdx: true,
      indirect: false,
      mrgRxbuf: false,
      kick,
    })
    opened.add(() => binding().closeRing(ring))
    return ring
  }

  it('takes no handle of another kind', () => {
    const fd = eventfd()
    assert.throws(() => binding().eventfdRead(mapping as unknown as NativeFd), {
      name: 'TypeError',
      message: 'the argument is not a fd of this addon',
    })
    assert.throws(() => binding().mappingAddress(fd as unknown as NativeMapping), {
      name: 'TypeError',
      message: /mapping/,
    })
    assert.throws(() => binding().ringInFlight(fd as unknown as NativeRing), { name: 'TypeError', message: /ring/ })
  })

  it('takes nothing that is no handle', () => {
    for (const other of [undefined, null, 3, 'fd', {}, new Uint8Array(8), () => undefined]) {
      assert.throws(() => binding().eventfdRead(other as unknown as NativeFd), { name: 'TypeError' })
    }
  })

  it('takes no handle that is closed', () => {
    const fd = eventfd()
    binding().closeFd(fd)
    assert.throws(() => binding().eventfdRead(fd), { code: 'ERR_CLOSED' })
  })

  it('lets nobody work on a ring that a loop works on', () => {
    const ring = ringOf(eventfd())
    const config = { call: eventfd(), done: eventfd(), frames: 1, batch: 1, delay: 0 }
    binding().ringStartLoop(ring, config)
    opened.add(() => binding().ringFinishLoop(ring))
    const words = new Uint32Array(3)
    for (const work of [
      () => binding().ringAllocate(ring, words, 1),
      () => binding().ringPrepare(ring, words, 100),
      () => binding().ringRelease(ring, words, 0),
      () => binding().ringSend(ring, words, 0, 0),
      () => binding().ringReclaim(ring),
      () => binding().ringPost(ring),
      () => binding().ringReceive(ring, words),
      () => binding().ringArm(ring, 0),
      () => binding().ringDisarm(ring),
      () => binding().ringSpin(ring, 0, 0),
      () => binding().ringStartLoop(ring, config),
    ]) {
      assert.throws(() => systemCall(work, { subject: 'ring' }), { code: 'EBUSY', syscall: 'virtqueue' }, `${work}`)
    }
    assert.equal(binding().ringInFlight(ring), 0)
  })
})
