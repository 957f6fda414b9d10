// Doorbells and interrupts of devices whose driver is in this process.

import assert from 'node:assert/strict'
import { LocalEvents } from '../../lib/driver/index.ts'
import { EventFd } from '../../lib/event/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { soon } from '../support/soon.ts'

describe('events of devices in this process', () => {
  let closing: Teardown
  let events: LocalEvents
  let raised: number[]

  beforeEach(() => {
    closing = new Teardown()
    raised = []
    events = new LocalEvents()
    events.handler = (vector) => raised.push(vector)
  })

  afterEach(() => closing.run())

  const eventfd = (): EventFd => closing.own(EventFd.create())

  const connected = (vector = 0): EventFd => {
    const call = eventfd()
    events.connect(vector, call)
    closing.add(() => events.disconnect(vector, call))
    return call
  }

  describe('a doorbell', () => {
    it('stands behind the writes that it was assigned to, and no others', () => {
      const kick = eventfd()
      events.assign({ address: 0x50, width: 4, value: 3 }, kick)
      assert.equal(events.doorbell({ address: 0x50, width: 4, value: 3 }), kick)
      for (const other of [
        { address: 0x54, width: 4, value: 3 },
        { address: 0x50, width: 2, value: 3 },
        { address: 0x50, width: 4, value: 2 },
      ])
        assert.equal(events.doorbell(other), undefined)
    })

    it('without value or width takes all of them', () => {
      const [anyValue, anything] = [eventfd(), eventfd()]
      events.assign({ address: 0x50, width: 2 }, anyValue)
      events.assign({ address: 0x60 }, anything)
      assert.equal(events.doorbell({ address: 0x50, width: 2, value: 9 }), anyValue)
      assert.equal(events.doorbell({ address: 0x60, width: 1, value: 9 }), anything)
    })

    it('is refused where another one takes the same writes, until that is deassigned', () => {
      const doorbell = { address: 0x50, width: 4, value: 3 }
      events.assign(doorbell, eventfd())
      const next = eventfd()
      assert.throws(() => events.assign(doorbell, next), { code: 'ERR_OPTION_CONFLICT' })
      events.deassign(doorbell)
      assert.equal(events.doorbell(doorbell), undefined)
      events.assign(doorbell, next)
      assert.equal(events.doorbell(doorbell), next)
    })
  })

  describe('an interrupt', () => {
    it('is raised by a signal, with its vector, and counts', async () => {
      const [first, second] = [connected(0), connected(5)]
      second.signal()
      await soon('an interrupt', () => raised.length === 1)
      first.signal(3n)
      await soon('another', () => raised.length === 2)
      assert.deepEqual(raised, [5, 0])
      assert.deepEqual([events.signals(first), events.signals(second)], [3, 1])
    })

    it('is raised by what was signalled before it was connected', async () => {
      const call = eventfd()
      call.signal()
      events.connect(0, call)
      closing.add(() => events.disconnect(0, call))
      await soon('an interrupt', () => raised.length === 1)
    })

    it('is not raised once it is disconnected: signals stay in the eventfd', async () => {
      const [gone, other] = [eventfd(), connected(1)]
      events.connect(0, gone)
      events.disconnect(0, gone)
      gone.signal()
      other.signal()
      await soon('the other interrupt', () => raised.length === 1)
      assert.deepEqual(raised, [1])
      assert.equal(gone.read(), 1n)
      assert.equal(events.signals(gone), 0)
    })

    it('is held back while its vector is masked, and raised once then', async () => {
      const [held, also, other] = [connected(0), connected(0), connected(1)]
      events.mask(0, true)
      held.signal()
      also.signal()
      other.signal()
      await soon('the one that is not masked', () => raised.length === 1)
      assert.equal(events.pending(0), true)
      assert.equal(events.pending(0), true)
      assert.equal(events.pending(1), false)
      events.mask(0, false)
      assert.deepEqual(raised, [1, 0])
      assert.equal(events.pending(0), false)
      assert.deepEqual([events.signals(held), events.signals(also)], [1, 1])
    })

    it('is not raised by taking the mask away where nothing came', async () => {
      const call = connected(0)
      events.mask(0, true)
      assert.equal(events.pending(0), false)
      events.mask(0, false)
      assert.deepEqual(raised, [])
      call.signal()
      await soon('an interrupt', () => raised.length === 1)
    })

    it('connected to a masked vector waits for it', async () => {
      events.mask(0, true)
      const call = connected(0)
      call.signal()
      assert.equal(events.pending(0), true)
      events.mask(0, false)
      assert.deepEqual(raised, [0])
    })

    it('that was looked for while masked goes back into the eventfd where it is disconnected', () => {
      const call = eventfd()
      events.connect(0, call)
      events.mask(0, true)
      call.signal(2n)
      assert.equal(events.pending(0), true)
      events.disconnect(0, call)
      assert.equal(call.read(), 2n)
    })
  })
})
