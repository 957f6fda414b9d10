// Frames as a Duplex over a driver whose device's end is in this process: backpressure both ways, and every end.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { finished, pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import { FramePort, FrameStream, NetHeader, type ReceivedFrame } from '../../lib/driver/index.ts'
import { NetHeaderError, QueueError, StateError } from '../../lib/errors.ts'
import { open, withPort } from '../support/port-device.ts'

const frameOf = (seed: number): Buffer => Buffer.alloc(60, `frame ${seed} `)
const frames = (count: number): Buffer[] => Array.from({ length: count }, (_, i) => frameOf(i))

/** Until everything that is ready has run. */
async function settle(): Promise<void> {
  for (let round = 0; round < 5; round++) await setImmediate()
}

describe('a frame stream', () => {
  describe('written to', () => {
    it('makes its writer wait while the ring is full, and drains when that has room', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { tx }) => {
        const stream = new FrameStream(port, { highWaterMark: 2 })
        let written = 0
        while (stream.write(frameOf(written++))) await settle()
        await settle()
        assert.equal(stream.writableNeedDrain, true)
        // What the ring holds, and what the stream holds.
        assert.equal(written, 4 + 2)
        const drained = once(stream, 'drain')
        const arrived = tx.takeAll()
        tx.call()
        await drained
        arrived.push(...tx.takeAll())
        assert.deepEqual(
          arrived.map((packet) => packet.subarray(12)),
          frames(6),
        )
        stream.destroy()
      })
    })

    it('sends everything that was written in order before it finishes, and finishes when the device has returned it', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { tx }) => {
        const stream = new FrameStream(port)
        for (const frame of frames(50)) stream.write(frame)
        stream.end(frameOf(50))
        const arrived: Buffer[] = []
        while (arrived.length < 51) {
          assert.equal(stream.writableFinished, false)
          arrived.push(...tx.takeAll())
          tx.call()
          await settle()
        }
        if (!stream.writableFinished) await once(stream, 'finish')
        assert.deepEqual(
          arrived.map((packet) => packet.subarray(12)),
          frames(51),
        )
        stream.destroy()
      })
    })

    it('does not finish while the device has a frame', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { tx }) => {
        const stream = new FrameStream(port)
        stream.end(frameOf(1))
        await settle()
        assert.equal(stream.writableFinished, false)
        tx.takeAll()
        tx.call()
        await once(stream, 'finish')
        stream.destroy()
      })
    })

    it('is destroyed by a frame that is refused, with the error', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { tx }) => {
        const stream = new FrameStream(port)
        const header = new NetHeader()
        header.flags = 1
        stream.write({ bytes: frameOf(1), header })
        await assert.rejects(finished(stream), (error: unknown) => error instanceof NetHeaderError)
        assert.equal(tx.takeAll().length, 0)
        await port.send(frameOf(2))
      })
    })
  })

  describe('read', () => {
    it('gives frames as they come', async () => {
      await withPort({ num: 8, bufferSize: 128 }, async (port, { rx }) => {
        const stream = new FrameStream(port)
        const seen: Buffer[] = []
        stream.on('data', ({ bytes }: ReceivedFrame) => seen.push(bytes))
        for (let i = 0; i < 30; i++) {
          const came = once(stream, 'data')
          rx.deliver(frameOf(i))
          rx.call()
          await came
        }
        assert.deepEqual(seen, frames(30))
        stream.destroy()
      })
    })

    it('leaves in the ring what nobody reads, but for as many as highWaterMark', async () => {
      await withPort({ num: 16, bufferSize: 128 }, async (port, { rx }) => {
        for (let i = 0; i < 12; i++) rx.deliver(frameOf(i))
        const untouched = new FrameStream(port)
        await settle()
        untouched.destroy()

        const stream = new FrameStream(port, { highWaterMark: 3 })
        await once(stream, 'readable')
        await settle()
        assert.equal(stream.readableLength, 3)
        assert.deepEqual(stream.read().bytes, frameOf(0))
        await settle()
        assert.equal(stream.readableLength, 3)
        stream.destroy()
        // Four were taken; the rest is there for others.
        assert.deepEqual(port.receive()?.bytes, frameOf(4))
      })
    })

    it('ends when the port is closed, after what was taken', async () => {
      await withPort({ num: 8, bufferSize: 128 }, async (port, { rx }) => {
        for (let i = 0; i < 4; i++) rx.deliver(frameOf(i))
        const seen: Buffer[] = []
        const stream = new FrameStream(port)
        for await (const { bytes } of stream) {
          seen.push(bytes)
          if (seen.length === 4) port.close()
        }
        assert.deepEqual(seen, frames(4))
        assert.equal(stream.errored, null)
        assert.equal(stream.destroyed, true)
      })
    })

    it('paused, takes nothing more', async () => {
      await withPort({ num: 64, bufferSize: 128 }, async (port, { rx }) => {
        const stream = new FrameStream(port, { highWaterMark: 1 })
        let seen = 0
        stream.on('data', () => {
          if (++seen === 5) stream.pause()
        })
        for (let i = 0; i < 40; i++) rx.deliver(frameOf(i))
        rx.call()
        await settle()
        assert.equal(seen, 5)
        assert.equal(stream.readableLength, 1)
        stream.resume()
        while (seen < 40) await setImmediate()
        stream.destroy()
      })
    })
  })

  describe('destroyed', () => {
    it('abandons waiting; port and driver go on', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port, { tx, rx }) => {
        const stream = new FrameStream(port)
        stream.on('error', (error) => assert.fail(error))
        stream.resume()
        const outcomes: boolean[] = []
        for (const frame of frames(5)) stream.write(frame, (error) => outcomes.push(!error))
        await settle()
        stream.destroy()
        await once(stream, 'close')
        await settle()
        // The first had room; of those handed over together with the third, nobody can say that all were sent.
        assert.deepEqual(outcomes, [true, false, false, false, false])
        assert.equal(tx.takeAll().length, 2)
        await port.send(frameOf(9))
        rx.deliver(frameOf(8))
        assert.deepEqual(port.receive()?.bytes, frameOf(8))
      })
    })

    it('in its own data handler gives nothing more', async () => {
      await withPort({ num: 8, bufferSize: 128 }, async (port, { rx }) => {
        for (let i = 0; i < 5; i++) rx.deliver(frameOf(i))
        const stream = new FrameStream(port)
        let seen = 0
        stream.on('data', () => {
          seen++
          stream.destroy()
        })
        await once(stream, 'close')
        await settle()
        assert.equal(seen, 1)
      })
    })

    it('while a frame is on its way to it gives that no more', async () => {
      await withPort({ num: 128, bufferSize: 128 }, async (port, { rx }) => {
        for (let i = 0; i < 64; i++) rx.deliver(frameOf(i))
        const stream = new FrameStream(port)
        let seen = 0
        // The 64th comes after other work of the thread.
        stream.on('data', () => {
          if (++seen === 63) process.nextTick(() => stream.destroy())
        })
        await once(stream, 'close')
        await settle()
        assert.equal(seen, 63)
        assert.equal(port.receive(), undefined)
      })
    })

    it('while it waits for the device to return what was sent', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port) => {
        const stream = new FrameStream(port)
        stream.end(frameOf(1))
        await settle()
        stream.destroy()
        await once(stream, 'close')
        assert.equal(stream.writableFinished, false)
      })
    })

    it('by its driver being closed, with ERR_CLOSED, whether it reads or writes', async () => {
      for (const use of [
        (stream: FrameStream) => stream.resume(),
        (stream: FrameStream) => frames(5).map((frame) => stream.write(frame)),
      ]) {
        await withPort({ num: 2, bufferSize: 128 }, async (port, { driver }) => {
          const stream = new FrameStream(port)
          use(stream)
          await settle()
          const failed = once(stream, 'error')
          driver.destroy()
          const [error] = await failed
          assert.ok(error instanceof StateError && error.code === 'ERR_CLOSED', String(error))
          assert.equal(stream.destroyed, true)
        })
      }
    })

    it('by an error of the queue, with it', async () => {
      await withPort({ num: 4, bufferSize: 128 }, async (port, { rx }) => {
        const stream = new FrameStream(port)
        stream.resume()
        const failed = once(stream, 'error')
        rx.lie()
        const [error] = await failed
        assert.ok(error instanceof QueueError && error.code === 'ERR_QUEUE_BROKEN', String(error))
      })
    })

    it('by its port being closed while frames wait for room, with ERR_CLOSED', async () => {
      await withPort({ num: 2, bufferSize: 128 }, async (port) => {
        const stream = new FrameStream(port)
        for (const frame of frames(3)) stream.write(frame)
        const failed = once(stream, 'error')
        port.close()
        const [error] = await failed
        assert.ok(error instanceof StateError && error.code === 'ERR_CLOSED', String(error))
      })
    })
  })

  it('[NET-TX-D01] is a cable: what one port receives is sent by the other, headers included', async () => {
    using left = open({ num: 8, bufferSize: 128, mrgRxbuf: true, features: [0, 1] })
    using right = open({ num: 8, bufferSize: 128, features: [0, 1] })
    const from = new FramePort(left.driver)
    const to = new FramePort(right.driver)
    const piped = pipeline(new FrameStream(from), new FrameStream(to))
    const header = Object.assign(new NetHeader(), { flags: 1, csum_start: 34, csum_offset: 6 })
    const valid = Object.assign(new NetHeader(), { flags: 2 })
    const sent: Buffer[] = []
    for (let i = 0; i < 20; i++) {
      left.rx.deliver(Buffer.alloc(200, i), i % 2 === 0 ? header : valid)
      left.rx.call()
      while (sent.length === i) {
        await setImmediate()
        sent.push(...right.tx.takeAll())
      }
      right.tx.call()
    }
    from.close()
    await piped
    assert.equal(sent.length, 20)
    for (const [i, packet] of sent.entries()) {
      assert.deepEqual(new NetHeader().read(packet, 0), i % 2 === 0 ? header : new NetHeader())
      assert.deepEqual(packet.subarray(12), Buffer.alloc(200, i))
    }
    to.close()
  })
})
