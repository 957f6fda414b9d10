// repeat() and discard(): a native thread makes available again what the device returns, while this thread plays the
// device.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, type TxQueue } from '../../lib/driver/index.ts'
import { openDriverAndDevice } from '../support/driver-and-device.ts'
import { diffSoon, resources } from '../support/resources.ts'
import type { RingDevice } from '../support/ring-device.ts'

const LENGTH = VIRTIO_NET_HDR_SIZE + 60

/** Sends packets that can be told apart by their first byte. */
function sendPackets(tx: TxQueue, count: number): void {
  const offsets = new Uint32Array(count)
  assert.equal(tx.allocate(offsets), count)
  const burst = new Burst(count)
  for (const [i, offset] of offsets.entries()) {
    tx.pool[offset + VIRTIO_NET_HDR_SIZE] = i
    burst.add(offset, LENGTH)
  }
  assert.equal(tx.send(burst), count)
}

/** Takes a step in every turn of the event loop until the promise settles. */
async function whileRunning(promise: Promise<unknown>, step: () => void): Promise<void> {
  let over = false
  const end = () => {
    over = true
  }
  promise.then(end, end)
  while (!over) {
    step()
    await setImmediate()
  }
}

/** Returns what is available, again and again, until the promise settles. */
function serve(device: RingDevice, until: Promise<unknown>, served: (first: number) => void = () => undefined) {
  return whileRunning(until, () => {
    for (let chain = device.take(); chain !== undefined; chain = device.take()) {
      const { address } = chain.segments[0]!
      served(device.bytes(address, LENGTH)[VIRTIO_NET_HDR_SIZE]!)
      device.giveBack({ id: chain.head, length: 0 })
    }
  })
}

/** Resolves when the driver asks for a call at that used index. */
async function asksAt(device: RingDevice, index: number): Promise<void> {
  while (device.usedEvent !== index) await setImmediate()
}

const code = (code: string) => ({ code })

describe('repeat', () => {
  it('sends what is in flight again and again, in the order in which it came back', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 3)
    pair.tx.call.signal()
    const seen: number[] = []
    const over = pair.tx.repeat({ frames: 30 })
    const calling = setInterval(() => pair.tx.call.signal(), 1)
    await serve(pair.txDevice, over, (first) => seen.push(first))
    clearInterval(calling)
    await over
    for (let chain = pair.txDevice.take(); chain !== undefined; chain = pair.txDevice.take()) {
      seen.push(pair.txDevice.bytes(chain.segments[0]!.address, LENGTH)[VIRTIO_NET_HDR_SIZE]!)
    }
    assert.deepEqual(
      seen,
      Array.from({ length: 33 }, (_, i) => i % 3),
    )
    const { available, used, frames, bytes } = pair.tx.counters()
    assert.deepEqual({ available, used, frames, bytes }, { available: 33, used: 30, frames: 30, bytes: 30 * 60 })
  })

  it('leaves the ring as usual at its end: what is in flight comes back to the pool', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 4)
    const over = pair.tx.repeat({ frames: 4 })
    pair.txDevice.spin(4)
    pair.tx.call.signal()
    await over
    assert.equal(pair.tx.inFlight, 4)
    pair.txDevice.spin(4)
    assert.equal(pair.tx.reclaim(), 4)
    assert.equal(pair.tx.counters().freeBuffers, pair.tx.layout.bufferCount)
  })

  it('goes round the 16 bits of the indices', async () => {
    using pair = openDriverAndDevice({ queueSize: 1024, bufferSize: 128 })
    sendPackets(pair.tx, 1024)
    const over = pair.tx.repeat({ frames: 140_000, batch: 256 })
    await whileRunning(over, () => {
      pair.txDevice.spin((pair.txDevice.availIdx - pair.txDevice.taken) & 0xffff)
      pair.tx.call.signal()
    })
    await over
    const { available, used } = pair.tx.counters()
    assert.deepEqual({ available, used }, { available: 141_024, used: 140_000 })
  })

  it('asks for a call when a batch came back, sleeps until then, and counts the call', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 6)
    const over = pair.tx.repeat({ frames: 6, batch: 4 })
    await asksAt(pair.txDevice, 3)
    pair.txDevice.spin(4)
    pair.tx.call.signal()
    // Two more will end it: it must not wait for a third.
    await asksAt(pair.txDevice, 5)
    pair.txDevice.spin(2)
    pair.tx.call.signal()
    await over
    assert.equal(pair.tx.counters().calls, 2)
  })

  it('leaves the queue to nobody else while it runs, except for its counters', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 2)
    const aborter = new AbortController()
    const over = pair.tx.repeat({ frames: 100, signal: aborter.signal })
    const busy = code('ERR_QUEUE_BUSY')
    assert.throws(() => pair.tx.reclaim(), busy)
    assert.throws(() => pair.tx.allocate(new Uint32Array(1)), busy)
    assert.throws(() => pair.tx.send(new Burst(1)), busy)
    assert.throws(() => pair.tx.release(new Uint32Array(1), 1), busy)
    await assert.rejects(pair.tx.repeat({ frames: 1 }), busy)
    await assert.rejects(pair.tx.writable(), busy)
    assert.equal(pair.tx.counters().available, 2)
    assert.equal(pair.tx.inFlight, 2)
    aborter.abort()
    await assert.rejects(over, { name: 'AbortError' })
  })

  it('ends when it is aborted, and the queue goes on', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 2)
    const aborter = new AbortController()
    const over = pair.tx.repeat({ frames: 1e9, signal: aborter.signal })
    setTimeout(() => aborter.abort(new Error('enough')), 20)
    const calling = setInterval(() => pair.tx.call.signal(), 1)
    await serve(pair.txDevice, over)
    clearInterval(calling)
    await assert.rejects(over, { message: 'enough' })
    pair.txDevice.spin((pair.txDevice.availIdx - pair.txDevice.taken) & 0xffff)
    pair.tx.reclaim()
    assert.equal(pair.tx.inFlight, 0)
    sendPackets(pair.tx, 8)
  })

  it('runs in a thread that no signal interrupts, and leaves this one open to them', async () => {
    const blocked = (tid: string): string[] => {
      const mask = BigInt(`0x${/^SigBlk:\s+(\w+)$/m.exec(readFileSync(`/proc/self/task/${tid}/status`, 'utf8'))![1]}`)
      return Object.entries(constants.signals)
        .filter(([, number]) => (mask >> BigInt(number - 1)) & 1n)
        .map(([name]) => name)
    }
    const before = blocked(`${process.pid}`)
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 1)
    const over = pair.tx.repeat({ frames: 1e9 })
    // A thread that has only just begun has them all blocked by the C library.
    await asksAt(pair.txDevice, 0)
    const thread = readdirSync('/proc/self/task').find(
      (tid) => readFileSync(`/proc/self/task/${tid}/comm`, 'utf8') === 'vhost-net-ring\n',
    )
    const cannot = ['SIGKILL', 'SIGSTOP']
    assert.deepEqual(
      blocked(thread!),
      Object.keys(constants.signals).filter((name) => !cannot.includes(name)),
    )
    assert.deepEqual(blocked(`${process.pid}`), before)
    pair.driver.destroy()
    await assert.rejects(over, code('ERR_CLOSED'))
  })

  for (const end of ['by itself', 'because it is aborted'] as const) {
    it(`leaves no thread and no file behind when it ends ${end}`, async () => {
      using pair = openDriverAndDevice()
      sendPackets(pair.tx, 2)
      const held = resources()
      const aborter = new AbortController()
      const over = pair.tx.repeat({ frames: 2, signal: aborter.signal })
      if (end === 'by itself') {
        pair.txDevice.spin(2)
        pair.tx.call.signal()
        await over
      } else {
        aborter.abort()
        await assert.rejects(over, { name: 'AbortError' })
      }
      assert.deepEqual(await diffSoon(held), [])
    })
  }

  it('does not begin where the signal was aborted before', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 1)
    await assert.rejects(pair.tx.repeat({ frames: 1, signal: AbortSignal.abort() }), { name: 'AbortError' })
    assert.equal(pair.tx.reclaim(), 0)
  })

  it('ends when the queue is closed', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 2)
    const over = pair.tx.repeat({ frames: 1e9 })
    pair.driver.destroy()
    await assert.rejects(over, code('ERR_CLOSED'))
  })

  it('fails where the device returns what it did not have', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 2)
    const over = pair.tx.repeat({ frames: 100 })
    pair.txDevice.giveBack({ id: 7, length: 0 })
    pair.tx.call.signal()
    await assert.rejects(over, code('ERR_QUEUE_BROKEN'))
  })

  it('refuses a queue with nothing in flight, one that somebody waits for, and numbers out of range', async () => {
    using pair = openDriverAndDevice()
    await assert.rejects(pair.tx.repeat({ frames: 1 }), code('ERR_QUEUE_EMPTY'))
    sendPackets(pair.tx, 1)
    await assert.rejects(pair.tx.repeat({ frames: 0 }), code('ERR_OPTION_RANGE'))
    await assert.rejects(pair.tx.repeat({ frames: 1, batch: 40_000 }), code('ERR_OPTION_RANGE'))
    const waiting = pair.tx.writable()
    await assert.rejects(pair.tx.repeat({ frames: 1 }), code('ERR_QUEUE_BUSY'))
    pair.txDevice.spin(1)
    pair.tx.call.signal()
    await waiting
  })
})

describe('discard', () => {
  /** Puts one packet of `lengths.length` buffers into what the driver posted. */
  const deliver = (device: RingDevice, lengths: readonly number[]) => {
    const elements = lengths.map((length, i) => {
      const chain = device.take()
      assert.ok(chain)
      if (i === 0) {
        const header = device.bytes(chain.segments[0]!.address, VIRTIO_NET_HDR_SIZE)
        header[VIRTIO_NET_HDR.num_buffers] = lengths.length
      }
      return { id: chain.head, length }
    })
    device.giveBack(...elements)
  }

  it('counts frames and their bytes, merged buffers too, and posts the buffers again at once', async () => {
    using pair = openDriverAndDevice()
    const over = pair.rx.discard({ frames: 3 })
    deliver(pair.rxDevice, [LENGTH])
    deliver(pair.rxDevice, [256, 256, 100])
    deliver(pair.rxDevice, [LENGTH])
    pair.rx.call.signal()
    await over
    const { available, used, frames, bytes } = pair.rx.counters()
    assert.deepEqual(
      { available, used, frames, bytes },
      { available: 13, used: 5, frames: 3, bytes: 60 + (612 - VIRTIO_NET_HDR_SIZE) + 60 },
    )
    assert.equal(pair.rxDevice.availIdx, 13)
  })

  it('leaves what comes after its last frame to the next receiver', async () => {
    using pair = openDriverAndDevice()
    for (let i = 0; i < 3; i++) deliver(pair.rxDevice, [LENGTH + i])
    await pair.rx.discard({ frames: 2 })
    const burst = new Burst(4)
    assert.equal(pair.rx.receive(burst), 1)
    assert.equal(burst.lengths[0], LENGTH + 2)
    pair.rx.releaseBurst(burst)
  })

  it('fails where a packet is not in order', async () => {
    using pair = openDriverAndDevice()
    const over = pair.rx.discard({ frames: 3 })
    deliver(pair.rxDevice, [100_000])
    pair.rx.call.signal()
    await assert.rejects(over, code('ERR_QUEUE_BROKEN'))
  })
})

describe('waiting for several', () => {
  it('asks for a call at the last of them, and is not content with fewer', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 6)
    let woken = false
    const waiting = pair.tx.writable(undefined, { frames: 4 }).then(() => {
      woken = true
    })
    assert.equal(pair.txDevice.usedEvent, 3)
    pair.txDevice.spin(3)
    pair.tx.call.signal()
    for (let turn = 0; turn < 20; turn++) await setImmediate()
    assert.equal(woken, false)
    pair.txDevice.spin(1)
    pair.tx.call.signal()
    await waiting
    assert.equal(pair.tx.reclaim(), 4)
  })

  it('waits for no more than are in flight', async () => {
    using pair = openDriverAndDevice()
    sendPackets(pair.tx, 2)
    const waiting = pair.tx.writable(undefined, { frames: 8 })
    assert.equal(pair.txDevice.usedEvent, 1)
    pair.txDevice.spin(2)
    pair.tx.call.signal()
    await waiting
  })

  it('is content with one when its time is over', async () => {
    using pair = openDriverAndDevice()
    const waiting = pair.rx.readable(undefined, { frames: 4, milliseconds: 5 })
    assert.equal(pair.rxDevice.usedEvent, 3)
    pair.rxDevice.spin(1, LENGTH)
    await waiting
    assert.equal(pair.rx.counters().calls, 0)
  })

  it('asks for a call at the first when its time is over and there is none', async () => {
    using pair = openDriverAndDevice()
    const waiting = pair.rx.readable(undefined, { frames: 4, milliseconds: 1 })
    await asksAt(pair.rxDevice, 0)
    pair.rxDevice.spin(1, LENGTH)
    pair.rx.call.signal()
    await waiting
  })

  it('refuses to wait for none, and for more than the ring has', async () => {
    using pair = openDriverAndDevice()
    await assert.rejects(pair.rx.readable(undefined, { frames: 0 }), code('ERR_OPTION_RANGE'))
    await assert.rejects(pair.rx.readable(undefined, { frames: 9 }), code('ERR_OPTION_RANGE'))
  })
})

describe('busy polling', () => {
  it('sees what is there without asking for a call', async () => {
    using pair = openDriverAndDevice({ busyPoll: 1000 })
    const before = pair.rxDevice.usedEvent
    pair.rxDevice.spin(1, LENGTH)
    await pair.rx.readable()
    assert.equal(pair.rxDevice.usedEvent, before)
  })

  it('looks for as long as it was told, then asks for a call', async () => {
    using pair = openDriverAndDevice({ busyPoll: 2000 })
    const started = process.hrtime.bigint()
    const waiting = pair.rx.readable()
    assert.ok(process.hrtime.bigint() - started >= 2_000_000n)
    assert.equal(pair.rxDevice.usedEvent, 0)
    pair.rxDevice.spin(1, LENGTH)
    pair.rx.call.signal()
    await waiting
  })
})
