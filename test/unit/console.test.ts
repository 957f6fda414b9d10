// The console of a machine as a stream, over a port that a test fills and empties.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Console } from '../../lib/vmm/console.ts'

/** A port with room for so many bytes of input. */
class Port {
  output = ''
  input = ''
  room = 4

  take(): Uint8Array {
    const taken = Buffer.from(this.output)
    this.output = ''
    return taken
  }

  put(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.room)
    this.room -= count
    this.input += Buffer.from(bytes.subarray(0, count)).toString()
    return count
  }
}

describe('the console of a machine', () => {
  let port: Port
  let console: Console

  beforeEach(() => {
    port = new Port()
    console = new Console(port)
  })

  const guestWrites = (text: string): void => {
    port.output += text
    console.service()
  }

  it('passes on what its guest writes', async () => {
    let read = ''
    console.setEncoding('utf8').on('data', (text: string) => {
      read += text
    })
    guestWrites('login: ')
    guestWrites('root\n')
    await setImmediate()
    assert.equal(read, 'login: root\n')
  })

  it('loses what its guest writes while nobody has begun to read', async () => {
    guestWrites('x'.repeat(1 << 20))
    console.setEncoding('utf8')
    const read = once(console, 'data')
    guestWrites('now')
    assert.deepEqual(await read, ['now'])
  })

  it('leaves in the port what a slow reader does not take, so that its guest waits, and goes on when it does', async () => {
    console.once('readable', () => undefined)
    console.read(0)
    guestWrites('a'.repeat(console.readableHighWaterMark))
    await setImmediate()
    guestWrites('b')
    await setImmediate()
    assert.equal(port.output, 'b')
    assert.equal(console.readableLength, console.readableHighWaterMark)
    const read = [console.read() as Buffer, console.read() as Buffer | null].map(String).join('')
    assert.equal(port.output, '')
    assert.match(read, /^a+b(null)?$/)
  })

  it('types at its guest as there is room, and says so to who writes', async () => {
    const written: string[] = []
    console.write('abcdef', () => written.push('first'))
    console.write('gh', () => written.push('second'))
    await setImmediate()
    assert.deepEqual([port.input, written], ['abcd', []])
    port.room = 3
    console.service()
    await setImmediate()
    assert.deepEqual([port.input, written], ['abcdefg', ['first']])
    port.room = 3
    console.service()
    await setImmediate()
    assert.deepEqual([port.input, written], ['abcdefgh', ['first', 'second']])
  })

  it('ends with its machine: what is left is read, and what is typed then is dropped', async () => {
    console.write('abcdef')
    port.output = 'the last words'
    console.finish()
    console.finish()
    let read = ''
    for await (const bytes of console) read += String(bytes)
    assert.equal(read, 'the last words')
    const dropped = new Console(port)
    dropped.finish()
    await new Promise((done) => dropped.write('gone', done))
    assert.equal(port.input, 'abcd')
  })

  it('drops what its guest writes once it was destroyed', async () => {
    console.destroy()
    await once(console, 'close')
    guestWrites('unheard')
    console.finish()
    assert.equal(port.output, '')
  })
})
