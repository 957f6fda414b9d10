// Which rings are told of as stuck: this thread is the worker whose time is looked at.

import assert from 'node:assert/strict'
import { type ProgressWatch, watchProgress } from '../../lib/host/progress.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { burn, thisThread } from '../support/busy-thread.ts'
import { GuestRing } from '../support/guest-ring.ts'

const NUM = 64

describe('a watch on a ring', () => {
  let memory: NativeMemory
  let ring: GuestRing
  let watch: ProgressWatch
  let told: number
  let heard: () => void

  beforeEach(() => {
    memory = GuestMemory.allocate({ size: 0x10000 })
    ring = new GuestRing(memory.window(0, 0x10000).buffer as ArrayBuffer, 0, NUM)
    told = 0
    heard = () => undefined
    watch = watchProgress(thisThread, () => {
      told++
      heard()
    })
    watch.begin({ ...ring, memory })
  })

  afterEach(() => {
    watch.close()
    memory.close()
  })

  it('tells of one that waits while its worker runs, before that had 500 ms', async () => {
    ring.offer(0)
    const ran = await burn(500, () => told > 0)
    assert.equal(told, 1, `not while its worker ran for ${ran} ms`)
  })

  it('tells of it again and again, but not before its worker ran for 200 ms more', async () => {
    ring.offer(0)
    await burn(2000, () => told > 0)
    const ran = await burn(5000, () => told > 3)
    assert.equal(told, 4)
    assert.ok(ran >= 3 * 190, `three times in ${ran} ms`)
  })

  it('tells once of one that waits while its worker sleeps', async () => {
    const news = new Promise<void>((resolve) => {
      heard = resolve
    })
    ring.offer(0)
    const begin = performance.now()
    await news
    assert.ok(performance.now() - begin >= 900, 'it was taken for busy')
    assert.equal(told, 1)
  })

  it('says nothing of one that goes on, however busy its worker is', async () => {
    // Where this thread is itself held up for that long, the ring does stand still.
    let [pauses, before] = [0, thisThread.cpuTime()]
    await burn(
      1000,
      () => false,
      () => {
        ring.offer(0)
        ring.usedIdx = ring.offered - 1
        if (thisThread.cpuTime() - before > 30e6) pauses++
        before = thisThread.cpuTime()
      },
    )
    assert.ok(told <= pauses, `${told} times, with ${pauses} pauses`)
  })

  it('says nothing of one on which nothing waits', async () => {
    await burn(500, () => false)
    assert.equal(told, 0)
  })

  it('says nothing of one that runs no more', async () => {
    watch.end()
    ring.offer(0)
    await burn(500, () => false)
    assert.equal(told, 0)
  })
})
