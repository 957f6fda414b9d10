// Frames as Buffers over a driver whose device's end is in this process: what goes through, who waits, and what becomes
// of whom when somebody closes.

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { type Frame, FramePort, NetHeader } from '../../lib/driver/index.ts'
import { InvalidOptionError, NetHeaderError, QueueError, StateError } from '../../lib/errors.ts'
import { build } from '../support/packets.ts'
import { open, type PortOptions, withPort } from '../support/port-device.ts'

const frameOf = (seed: number, size = 60): Buffer => Buffer.alloc(size, `frame ${seed} `)
const frames = (count: number, size?: number): Buffer[] => Array.from({ length: count }, (_, i) => frameOf(i, size))

const closed = (error: unknown): boolean => error instanceof StateError && error.code === 'ERR_CLOSED'

/** What became of a promise so far. */
function watch(promise: Promise<unknown>): { state: () => 'waiting' | 'resolved' | 'rejected' } {
  let state: 'waiting' | 'resolved' | 'rejected' = 'waiting'
  promise.then(
    () => {
      state = 'resolved'
    },
    () => {
      state = 'rejected'
    },
  )
  return { state: () => state }
}

describe('a frame port', () => {
  describe('sending', () => {
    for (const [name, options] of [
      ['in chains of descriptors', { num: 64, bufferSize: 2048 }],
      ['in indirect tables', { num: 8, bufferSize: 2048, indirect: true }],
      ['over buffers that hold little', { num: 64, bufferSize: 128 }],
      ['in one buffer each', { num: 2, bufferSize: 65_562 }],
    ] as const satisfies readonly (readonly [string, PortOptions])[]) {
      it(`brings frames of every size unchanged to the device, ${name}`, async () => {
        await withPort(options, async (port, { tx }) => {
          const most = Math.min(65_549, Math.min(64, options.num) * options.bufferSize - VIRTIO_NET_HDR_SIZE)
          for (const size of [14, 60, 115, 116, 117, 1514, 2036, 2037, 8000, most].filter((size) => size <= most)) {
            await port.send(frameOf(size, size))
            const [packet, ...more] = tx.takeAll()
            assert.deepEqual(more, [])
            assert.deepEqual(packet, Buffer.concat([Buffer.alloc(VIRTIO_NET_HDR_SIZE), frameOf(size, size)]))
          }
        })
      })
    }

    it('puts a burst of frames on the ring in one call, in order', async () => {
      await withPort({ num: 128, bufferSize: 256 }, async (port, { tx }) => {
        await port.send(frames(100))
        assert.deepEqual(
          tx.takeAll().map((packet) => packet.subarray(12)),
          frames(100),
        )
      })
    })

    it('offers as many frames as have room, and says how many', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { tx }) => {
        // Two descriptors, one, two: the last has no room.
        assert.equal(port.offer([frameOf(0, 200), frameOf(1, 60), frameOf(2, 200)]), 2)
        assert.equal(port.offer(frameOf(3, 60)), 1)
        assert.equal(port.offer(frameOf(4, 60)), 0)
        assert.equal(tx.takeAll().length, 3)
        assert.equal(port.offer([frameOf(4), frameOf(5)]), 2)
        assert.deepEqual(
          tx.takeAll().map((packet) => packet.subarray(12)),
          [frameOf(4), frameOf(5)],
        )
        assert.equal(port.offer([]), 0)
      })
    })

    it('loses no buffer of the pool, however often frames find no room', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.integer({ min: 14, max: 500 }), fc.integer({ min: 1, max: 9 }), fc.boolean()), {
            maxLength: 30,
          }),
          async (steps) => {
            await withPort({ num: 4, bufferSize: 128 }, async (port, { tx, pair }) => {
              let sent = 0
              let arrived = 0
              for (const [size, count, serve] of steps) {
                sent += port.offer(frames(count, size))
                if (serve) arrived += tx.takeAll().length
              }
              arrived += tx.takeAll().length
              assert.equal(arrived, sent)
              const offsets = new Uint32Array(pair.tx.layout.bufferCount)
              assert.equal(pair.tx.allocate(offsets), offsets.length)
            })
          },
        ),
        { numRuns: 50 },
      )
    })

    it('waits for room, sends in the order of the calls, and resolves when the last frame is on the ring', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx }) => {
        const order: string[] = []
        const first = port.send(frames(5)).then(() => order.push('first'))
        const second = port.send(frameOf(5)).then(() => order.push('second'))
        assert.equal(port.offer(frameOf(9)), 0, 'an offer went in front of those who wait')
        const arrived: Buffer[] = []
        while (arrived.length < 6) {
          assert.ok(arrived.length + 2 >= 5 || order.length === 0)
          arrived.push(...tx.takeAll())
          tx.call()
          await setImmediate()
        }
        await Promise.all([first, second])
        assert.deepEqual(order, ['first', 'second'])
        assert.deepEqual(
          arrived.map((packet) => packet.subarray(12)),
          frames(6),
        )
      })
    })

    it('goes to those in line first, also when room is there that they were not told of yet', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx }) => {
        // The line is empty in between, and forms again.
        for (let round = 0; round < 3; round++) {
          const waiting = port.send(frames(3))
          assert.equal(tx.takeAll().length, 2)
          assert.equal(port.offer(frameOf(9)), 0)
          tx.call()
          await waiting
          assert.deepEqual(
            tx.takeAll().map((packet) => packet.subarray(12)),
            [frameOf(2)],
          )
          assert.equal(port.offer(frameOf(9)), 1)
          tx.takeAll()
        }
      })
    })

    it('leaves nothing at the signal when it is done', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx }) => {
        const { signal } = new AbortController()
        const waiting = port.send(frames(3), { signal })
        assert.equal(getEventListeners(signal, 'abort').length, 1)
        tx.takeAll()
        tx.call()
        await waiting
        assert.equal(getEventListeners(signal, 'abort').length, 0)
      })
    })

    it('copies before it returns where there is room', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { tx }) => {
        const frame = frameOf(1)
        const sent = port.send(frame)
        frame.fill(0)
        await sent
        assert.deepEqual(tx.takeAll()[0]!.subarray(12), frameOf(1))
      })
    })

    it('stops waiting when its signal is aborted: those behind it go on', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx }) => {
        const stop = new AbortController()
        const first = port.send(frames(4), { signal: stop.signal })
        const second = port.send(frameOf(7))
        stop.abort(new Error('enough'))
        await assert.rejects(first, /enough/)
        const arrived = tx.takeAll()
        tx.call()
        await second
        arrived.push(...tx.takeAll())
        assert.deepEqual(
          arrived.map((packet) => packet.subarray(12)),
          [frameOf(0), frameOf(1), frameOf(7)],
        )
        await assert.rejects(port.send(frameOf(8), { signal: stop.signal }), /enough/)
        assert.equal(tx.takeAll().length, 0)
      })
    })

    it('that was aborted and alone in line leaves nothing behind: the next one waits and is served', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx }) => {
        assert.equal(port.offer(frames(2)), 2)
        const stop = new AbortController()
        const first = port.send(frameOf(5), { signal: stop.signal })
        stop.abort(new Error('enough'))
        await assert.rejects(first, /enough/)
        const second = port.send(frameOf(6))
        assert.equal(tx.takeAll().length, 2)
        tx.call()
        await second
        assert.deepEqual(tx.takeAll()[0]!.subarray(12), frameOf(6))
      })
    })

    it('says so instead of waiting for ever where somebody else holds all buffers', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { pair }) => {
        const offsets = new Uint32Array(pair.tx.layout.bufferCount)
        pair.tx.allocate(offsets)
        await assert.rejects(port.send(frameOf(1)), (error: unknown) => {
          assert.ok(error instanceof QueueError)
          assert.match(error.message, /no free buffer/)
          return true
        })
        pair.tx.release(offsets, offsets.length)
        await port.send(frameOf(1))
      })
    })

    it('lets other work of the thread go between, however fast the device is', async () => {
      await withPort({ num: 256, bufferSize: 128 }, async (port, { tx }) => {
        let ran = false
        void setImmediate().then(() => {
          ran = true
        })
        for (let sent = 0; !ran; sent++) {
          assert.ok(sent < 1000, 'a thousand frames went before anything else')
          await port.send(frameOf(sent))
          tx.takeAll()
        }
      })
    })

    it('refuses what is no frame before anything is sent, and in a list with nothing of it sent', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx }) => {
        const gso = new NetHeader()
        gso.gso_type = 1
        for (const [frame, type, message] of [
          ['text', InvalidOptionError, /must be a Uint8Array/],
          [undefined, InvalidOptionError, /must be a Uint8Array/],
          [{ bytes: [1, 2] }, InvalidOptionError, /must be a Uint8Array/],
          [Buffer.alloc(13), InvalidOptionError, /must have 14\.\.244 bytes, not 13/],
          [Buffer.alloc(245), InvalidOptionError, /must have 14\.\.244 bytes, not 245/],
          [{ bytes: frameOf(1), header: { flags: 0 } }, InvalidOptionError, /frame\.header: must be a NetHeader/],
          [{ bytes: frameOf(1), header: gso }, NetHeaderError, /needs VIRTIO_NET_F_HOST_TSO4/],
        ] as const) {
          for (const list of [frame, [frameOf(0), frame]]) {
            const refused = (error: unknown): boolean => error instanceof type && message.test(error.message)
            assert.throws(() => port.offer(list as unknown as Frame), refused)
            await assert.rejects(port.send(list as unknown as Frame), refused)
          }
        }
        assert.equal(tx.takeAll().length, 0)
      })
    })

    it('puts the header in front, without what is only of receiving, and leaves the caller’s as it is', async () => {
      await withPort({ num: 4, bufferSize: 2048, features: [0, 11] }, async (port, { tx }) => {
        const { frame } = build({ protocol: 'tcp', payload: Buffer.alloc(3000, 5) })
        const header = new NetHeader().offloadSegmentation(1448, frame)
        header.flags |= 2
        header.num_buffers = 2
        await port.send({ bytes: frame, header })
        assert.deepEqual([header.flags, header.num_buffers], [3, 2])
        const [packet] = tx.takeAll()
        const sent = new NetHeader().read(packet!, 0)
        assert.deepEqual(sent, Object.assign(new NetHeader().copy(header), { flags: 1, num_buffers: 0 }))
        assert.deepEqual(packet!.subarray(12), frame)
      })
    })
  })

  describe('receiving', () => {
    it('joins merged buffers, copies frames out and gives the buffers back at once', async () => {
      await withPort({ num: 64, bufferSize: 2048, mrgRxbuf: true }, async (port, { pair, rx }) => {
        const { freeBuffers } = pair.rx.counters()
        for (const size of [14, 60, 2036, 2037, 65_549]) {
          rx.deliver(frameOf(size, size))
          const before = rx.availIdx
          const received = port.receive()
          assert.deepEqual(received?.bytes, frameOf(size, size))
          assert.equal(received.header.num_buffers, Math.ceil((12 + size) / 2048))
          rx.scribble()
          assert.deepEqual(received.bytes, frameOf(size, size))
          assert.ok(rx.availIdx !== before)
          assert.equal(pair.rx.counters().freeBuffers, freeBuffers)
        }
        assert.equal(port.receive(), undefined)
      })
    })

    it('tells what the device says of the frame', async () => {
      await withPort({ num: 4, bufferSize: 2048, features: [1, 7] }, async (port, { rx }) => {
        const { frame } = build({ protocol: 'tcp', payload: Buffer.alloc(1000, 5) })
        const right = Buffer.from(frame)
        const header = new NetHeader().offloadSegmentation(400, frame)
        rx.deliver(frame, header)
        const received = port.receive()!
        assert.deepEqual([received.header.needsCsum, received.header.gso, received.header.gso_size], [true, 1, 400])
        assert.equal(received.header.num_buffers, 1)
        assert.equal(received.header.completeChecksum(received.bytes), true)
        assert.deepEqual(received.bytes, right)
      })
    })

    it('iterates over frames as they come, until the port is closed', async () => {
      await withPort({ num: 8, bufferSize: 128 }, async (port, { rx }) => {
        const seen: Buffer[] = []
        const reading = (async () => {
          for await (const { bytes } of port) {
            seen.push(bytes)
            if (seen.length === 6) port.close()
          }
        })()
        for (let i = 0; i < 6; i++) {
          rx.deliver(frameOf(i))
          rx.call()
          await setImmediate()
        }
        await reading
        assert.deepEqual(seen, frames(6))
      })
    })

    it('leaves in the ring what nobody took: after break, return, abort and close', async () => {
      await withPort({ num: 16, bufferSize: 128 }, async (port, { driver, rx }) => {
        for (let i = 0; i < 10; i++) rx.deliver(frameOf(i))
        const seen: Buffer[] = []
        for await (const { bytes } of port) {
          seen.push(bytes)
          if (seen.length === 3) break
        }
        const reader = port.frames()
        seen.push((await reader.next()).value!.bytes)
        assert.deepEqual(await reader.return(), { done: true, value: undefined })
        assert.deepEqual(await reader.next(), { done: true, value: undefined })
        const stop = new AbortController()
        await assert.rejects(async () => {
          for await (const { bytes } of port.frames({ signal: stop.signal })) {
            seen.push(bytes)
            if (seen.length === 6) stop.abort(new Error('enough'))
          }
        }, /enough/)
        for await (const { bytes } of port) {
          seen.push(bytes)
          if (seen.length === 8) port.close()
        }
        for await (const { bytes } of new FramePort(driver)) {
          seen.push(bytes)
          if (seen.length === 10) break
        }
        assert.deepEqual(seen, frames(10))
      })
    })

    for (const [how, end, outcome] of [
      ['return()', ({ reader }) => void reader.return(), 'ends'],
      ['closing the port', ({ port }) => port.close(), 'ends'],
      ['its signal', ({ stop }) => stop.abort(new Error('enough')), /enough/],
      ['closing the driver', ({ driver }) => driver.destroy(), /pair 0 rx was closed/],
    ] as const satisfies readonly (readonly [string, (given: Reading) => void, 'ends' | RegExp])[]) {
      it(`${outcome === 'ends' ? 'ends' : 'fails'} while it waits, by ${how}, and has ended then`, async () => {
        await withPort({ num: 4, bufferSize: 128 }, async (port, { driver }) => {
          const stop = new AbortController()
          const reader = port.frames({ signal: stop.signal })
          const next = reader.next()
          const { state } = watch(next)
          await setImmediate()
          assert.equal(state(), 'waiting')
          end({ reader, port, stop, driver })
          const [settled] = await Promise.allSettled([next])
          if (outcome === 'ends')
            assert.deepEqual(settled, { status: 'fulfilled', value: { done: true, value: undefined } })
          else assert.match(String((settled as PromiseRejectedResult).reason), outcome)
          assert.deepEqual(await reader.next(), { done: true, value: undefined })
        })
      })
    }

    it('takes nothing for a reader whose signal was aborted before', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { rx }) => {
        rx.deliver(frameOf(1))
        await assert.rejects(port.frames({ signal: AbortSignal.abort(new Error('enough')) }).next(), /enough/)
        assert.deepEqual(port.receive()?.bytes, frameOf(1))
      })
    })

    it('shares the frames among two readers, each to one of them, none lost when one leaves', async () => {
      await withPort({ num: 64, bufferSize: 128 }, async (port, { rx }) => {
        const seen: [Buffer[], Buffer[]] = [[], []]
        const read = async (mine: Buffer[], most: number): Promise<void> => {
          for await (const { bytes } of port) {
            mine.push(bytes)
            if (mine.length === most) return
          }
        }
        const first = read(seen[0], 5)
        const second = read(seen[1], 100)
        for (let i = 0; i < 40; i++) {
          rx.deliver(frameOf(i))
          rx.call()
          if (i % 3 === 0) await setImmediate()
        }
        await first
        while (seen[0].length + seen[1].length < 40) await setImmediate()
        port.close()
        await second
        assert.equal(seen[0].length, 5)
        assert.deepEqual([...seen[0], ...seen[1]].map(String).sort(), frames(40).map(String).sort())
        assert.deepEqual(
          seen[1].map(String),
          frames(40)
            .map(String)
            .filter((text) => !seen[0].map(String).includes(text)),
        )
      })
    })

    it('answers several next() at once in order', async () => {
      await withPort({ num: 16, bufferSize: 128 }, async (port, { rx }) => {
        const reader = port.frames()
        const results = Array.from({ length: 8 }, () => reader.next())
        for (let i = 0; i < 8; i++) rx.deliver(frameOf(i))
        rx.call()
        assert.deepEqual(
          (await Promise.all(results)).map(({ value }) => value?.bytes),
          frames(8),
        )
      })
    })

    it('lets other work of the thread go between, however fast the device is', async () => {
      await withPort({ num: 8, bufferSize: 128 }, async (port, { rx }) => {
        rx.deliver(frameOf(0))
        let ran = false
        void setImmediate().then(() => {
          ran = true
        })
        let received = 0
        for await (const _ of port) {
          assert.ok(received++ < 1000, 'a thousand frames went before anything else')
          if (ran) break
          rx.deliver(frameOf(received))
        }
      })
    })
  })

  describe('closing', () => {
    it('rejects who waits for room, refuses what comes then, and leaves the driver as it is', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { driver, tx }) => {
        const waiting = [port.send(frames(3)), port.send(frameOf(1))]
        const readable = port.readable()
        port.close()
        port.close()
        assert.equal(port.closed, true)
        for (const promise of [...waiting, readable, port.send(frameOf(1)), port.readable()])
          await assert.rejects(promise, closed)
        assert.throws(() => port.offer(frameOf(1)), closed)
        assert.throws(() => port.receive(), closed)
        assert.deepEqual(await port.frames().next(), { done: true, value: undefined })
        assert.equal(driver.closed, false)
        assert.equal(tx.takeAll().length, 2)
        await new FramePort(driver).send(frameOf(1))
        assert.equal(tx.takeAll().length, 1)
        await port.drained()
      })
    })

    it('of the driver is found by everyone who waits, and by what comes then', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { driver }) => {
        const waiting = [port.send(frames(3)), port.readable(), port.drained()]
        driver.destroy()
        for (const promise of [...waiting, port.send(frameOf(1)), port.readable()])
          await assert.rejects(promise, closed)
        assert.throws(() => port.receive(), closed)
        await assert.rejects(port.frames().next(), closed)
        assert.equal(port.closed, false)
        port.close()
      })
    })

    it('of the driver in a reader’s own loop ends the loop with the error', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { driver, rx }) => {
        rx.deliver(frameOf(0))
        rx.deliver(frameOf(1))
        await assert.rejects(async () => {
          for await (const _ of port) driver.destroy()
        }, closed)
      })
    })
  })

  it('is over one pair of a driver', () => {
    using opened = open({ num: 2, bufferSize: 128 })
    assert.throws(() => new FramePort(opened.driver, 1), { name: 'InvalidOptionError', code: 'ERR_OPTION_RANGE' })
    assert.throws(() => new FramePort(opened.driver.pairs[0] as never), {
      name: 'InvalidOptionError',
      code: 'ERR_OPTION_TYPE',
    })
  })
})

interface Reading {
  reader: ReturnType<FramePort['frames']>
  port: FramePort
  stop: AbortController
  driver: { destroy(): void }
}
