// Where the driver lays its queues: whatever is asked for, nothing overlaps and everything is aligned.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VRING_DESC_SIZE, vringSizes } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Driver } from '../../lib/driver/index.ts'
import { type LayoutOptions, layOut, MAX_FRAME_SIZE, type QueueLayout } from '../../lib/driver/layout.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { featuresOf } from '../support/driver-ring.ts'

const layoutOptions: fc.Arbitrary<LayoutOptions> = fc.record({
  queuePairs: fc.integer({ min: 1, max: 12 }),
  queueSize: fc.integer({ min: 1, max: 15 }).map((power) => 2 ** power),
  bufferSize: fc.oneof(fc.constantFrom(128, 2048, 65562), fc.integer({ min: 128, max: 65562 })),
  indirect: fc.boolean(),
  address: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 ** 40 })),
})

interface Part {
  name: string
  from: number
  to: number
  align: number
}

function partsOf(name: string, queue: QueueLayout, indirect: boolean): Part[] {
  const sizes = vringSizes(queue.num)
  const table = indirect ? queue.num * queue.maxSegments * VRING_DESC_SIZE : 0
  const part = (what: string, from: number, size: number, align: number): Part => ({
    name: `${name} ${what}`,
    from,
    to: from + size,
    align,
  })
  return [
    part('descriptor table', queue.desc, sizes.desc, 16),
    part('available ring', queue.avail, sizes.avail, 2),
    part('used ring', queue.used, sizes.used, 4),
    part('indirect tables', queue.indirectTables, table, 16),
    part('pool', queue.pool, queue.bufferCount * queue.bufferSize, 4096),
  ]
}

function allParts(options: LayoutOptions): Part[] {
  return layOut(options).pairs.flatMap(({ rx, tx }, pair) => [
    ...partsOf(`pair ${pair} rx`, rx, options.indirect),
    ...partsOf(`pair ${pair} tx`, tx, options.indirect),
  ])
}

describe('the layout of a driver', () => {
  it('gives every part of every queue memory of its own, within what it says it needs', () => {
    fc.assert(
      fc.property(layoutOptions, (options) => {
        const parts = allParts(options).sort((a, b) => a.from - b.from || a.to - b.to)
        let last = { name: 'the beginning', to: options.address }
        for (const part of parts) {
          assert.ok(part.from >= last.to, `${part.name} begins at ${part.from}, ${last.name} ends at ${last.to}`)
          last = part
        }
        assert.ok(last.to <= options.address + layOut(options).size)
      }),
    )
  })

  it('[RING-LAYOUT-D01] aligns every part as virtio and pages want it', () => {
    fc.assert(
      fc.property(layoutOptions, (options) => {
        for (const { name, from, align } of allParts(options)) assert.equal(from % align, 0, name)
      }),
    )
  })

  it('wastes at most the alignment of each part', () => {
    fc.assert(
      fc.property(layoutOptions, (options) => {
        const parts = allParts(options)
        const filled = parts.reduce((sum, { from, to }) => sum + to - from, 0)
        assert.ok(layOut(options).size - filled < (parts.length + 1) * 4096)
      }),
    )
  })

  it('[RING-FRAME-D02] [RING-IND-D03] makes room for the largest frame in one chain, as far as the ring allows', () => {
    fc.assert(
      fc.property(layoutOptions, (options) => {
        const packet = MAX_FRAME_SIZE + VIRTIO_NET_HDR_SIZE
        for (const { rx, tx } of layOut(options).pairs) {
          for (const { maxSegments, bufferSize, bufferCount, num } of [rx, tx]) {
            assert.ok(maxSegments * bufferSize >= packet || maxSegments === num)
            assert.ok((maxSegments - 1) * bufferSize < packet)
            assert.equal(bufferCount, 2 * num)
          }
        }
      }),
    )
  })

  it('is the same for every pair, one after the other', () => {
    fc.assert(
      fc.property(layoutOptions, (options) => {
        const { pairs } = layOut(options)
        assert.equal(pairs.length, options.queuePairs)
        const starts = pairs.flatMap(({ rx, tx }) => [rx.desc, tx.desc])
        const strides = new Set(starts.slice(1).map((start, index) => start - starts[index]!))
        assert.ok(strides.size <= 1, `strides ${[...strides]}`)
      }),
    )
  })

  it('[RING-ANOTIF-D01] begins with used rings that say nothing, whatever was in their memory', () => {
    const layout = { features: featuresOf({ num: 8, bufferSize: 128 }), queueSize: 8, bufferSize: 128 }
    const memory = GuestMemory.allocate({ size: Driver.memoryNeeded(layout), backing: 'anonymous' })
    memory.window(0, memory.regions[0]!.size).fill(0xff)
    const driver = Driver.create({ ...layout, memory })
    const used = new Uint8Array(6 + 8 * 8)
    for (const { rx, tx } of driver.pairs) {
      for (const queue of [rx, tx]) {
        memory.read(queue.layout.used, used)
        assert.ok(used.every((byte) => byte === 0))
      }
    }
    driver.destroy()
    memory.close()
  })
})
