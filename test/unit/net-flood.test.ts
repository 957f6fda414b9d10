// Two virtio-net devices in one process: a driver that never pauses leaves the other device its turns of the event loop.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { MAX_COMMAND } from '../../lib/net/control-queue.ts'
import { MAX_BUFFERS, MAX_TURN_MS } from '../../lib/virtio/queue-service.ts'
import { NetRig } from '../support/net-rig.ts'

const TURNS = 30
/** Of the driver, each of a dozen register writes and more, in one turn. */
const RESETS = 8
/** Within which the other device answers, whatever the first one's driver does. */
const PATIENCE_MS = 100

const PROMISCUOUS = [0, 0, 1]
const ADDRESSES = Math.floor((MAX_COMMAND - 10) / 6)
const LARGEST_TABLE = [
  ...[1, 0, ADDRESSES & 0xff, ADDRESSES >> 8, 0, 0],
  ...Array.from({ length: 6 * ADDRESSES }, (_, i) => (i % 6 === 0 ? 0x52 : i & 0xff)),
  ...[0, 0, 0, 0],
]

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

describe('a virtio-net device beside one whose driver never pauses', () => {
  let flooded: NetRig
  let other: NetRig

  beforeEach(() => {
    flooded = new NetRig().up()
    other = new NetRig().up()
  })

  afterEach(() => {
    flooded.backend.before = undefined
    flooded.close()
    other.close()
  })

  /** From now on the control queue has a command more whenever one is carried out. Returns how many there were. */
  async function flood(command: readonly number[], meanwhile = (): void => undefined): Promise<() => number> {
    let served = 0
    flooded.backend.before = (entry) => {
      if (entry !== 'filter') return
      served++
      meanwhile()
      flooded.control.offer(0)
    }
    await flooded.send(command)
    return () => served
  }

  /** Milliseconds between one answer of the other device's and the next; `each` is called at every one. */
  async function gaps(each: () => void): Promise<number[]> {
    const found: number[] = []
    for (let turn = 0, last = performance.now(); turn < TURNS; turn++) {
      await setImmediate()
      assert.equal(other.guest.status, 15)
      const now = performance.now()
      found.push(now - last)
      last = now
      each()
    }
    return found
  }

  it(`answers after ${MAX_BUFFERS} commands at most`, async () => {
    const served = await flood(PROMISCUOUS)
    const perTurn: number[] = []
    let before = served()
    const found = await gaps(() => {
      perTurn.push(served() - before)
      before = served()
    })
    assert.ok(
      perTurn.every((commands) => commands > 0 && commands <= MAX_BUFFERS),
      `${perTurn}`,
    )
    assert.ok(median(found) < PATIENCE_MS, `${found}`)
  })

  it(`answers after the command that ends behind ${MAX_TURN_MS} ms`, async () => {
    const served = await flood(PROMISCUOUS, () => {
      for (const end = performance.now() + MAX_TURN_MS; performance.now() < end; );
    })
    let before = served()
    await gaps(() => {
      assert.ok(served() - before <= 1, 'one command in a turn')
      before = served()
    })
    assert.ok(before >= TURNS - 1, 'one command in nearly every turn')
  })

  it('answers soon enough where each command is as long as it may be', async () => {
    await flood(LARGEST_TABLE)
    const found = await gaps(() => undefined)
    assert.ok(median(found) < PATIENCE_MS, `${found}`)
  })

  it('answers soon enough where the driver resets its device and makes it ready, again and again', async () => {
    const found = await gaps(() => {
      for (let i = 0; i < RESETS; i++) flooded.up()
    })
    assert.ok(median(found) < PATIENCE_MS, `${found}`)
    assert.equal(flooded.device.stats().activations, 1 + RESETS * TURNS)
  })
})
