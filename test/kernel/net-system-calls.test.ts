// What a driver that becomes ready costs in system calls, against the backend's own start of as many pairs.

import assert from 'node:assert/strict'
import { KernelNic } from '../support/kernel-nic.ts'
import { SystemCalls } from '../support/system-calls.ts'

const PAIRS = 4
/** The timers and signals of the runtime cost some now and then: the fewest count. */
const ROUNDS = 3

async function fewest(round: () => Promise<number>): Promise<number> {
  const counts: number[] = []
  for (let i = 0; i < ROUNDS; i++) counts.push(await round())
  return Math.min(...counts)
}

const open = (): Promise<KernelNic> => KernelNic.open({ ifname: 'vnn0', queuePairs: PAIRS })

/** The same rings, started without a device: each pair by itself. */
async function bare(calls: SystemCalls): Promise<number> {
  using machine = await open()
  machine.prepare()
  const { driver, nic } = machine
  const features = nic.accepted & nic.backend.features
  const pairs = driver.pairs.map(({ rx, tx }) => ({ features, rx: rx.vring, tx: tx.vring }))
  const count = await calls.of(() => {
    for (const [index, pair] of pairs.entries()) nic.backend.start(index, pair)
  })
  for (const index of pairs.keys()) nic.backend.stop(index)
  return count
}

/** DRIVER_OK, and the pairs that the driver asked for while there was no link. */
async function device(calls: SystemCalls): Promise<{ ready: number; pairs: number }> {
  using machine = await open()
  machine.nic.setLink(false)
  machine.prepare()
  const ready = await calls.of(() => machine.ready())
  assert.ok(await machine.command(4, 0, PAIRS, 0))
  const pairs = await calls.of(() => machine.nic.setLink(true))
  assert.ok(machine.nic.inspect().pairs.every(({ running }) => running))
  return { ready, pairs }
}

describe('a virtio-net device', () => {
  it(`takes no more system calls to start ${PAIRS} pairs than the backend takes by itself, and one for its control queue`, async () => {
    using calls = new SystemCalls()
    const least = await fewest(() => bare(calls))
    assert.ok(least > PAIRS * 10, `${least} to start ${PAIRS} pairs`)
    const pairs = await fewest(async () => (await device(calls)).pairs)
    assert.ok(pairs <= least, `${pairs} by the device, ${least} by the backend`)
    // The queue's kick is watched.
    const ready = await fewest(async () => (await device(calls)).ready)
    assert.ok(ready <= 1, `${ready} when the driver is ready`)
  })
})
