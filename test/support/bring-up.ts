// A NIC brought up whole, step by step, as the kernel tests need it.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Burst, Driver } from '../../lib/driver/index.ts'
import { RtNetlink } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'

/** VERSION_1, EVENT_IDX, INDIRECT_DESC, MRG_RXBUF. */
export const features = (1n << 32n) | (1n << 29n) | (1n << 28n) | (1n << 15n)

/** What the caller was given so far, in the order it came. */
export interface Given {
  memory?: NativeMemory
  backend?: VhostNetBackend
  driver?: Driver
  netlink?: RtNetlink
}

/** Memory, kernel objects and rings, with nothing running yet; `given` has what was made where a step failed. */
export async function open(
  given: Given,
  { ifname, queuePairs = 1, ...more }: { ifname: string; queuePairs?: number; sndbuf?: number },
): Promise<{ memory: NativeMemory; backend: VhostNetBackend; driver: Driver }> {
  const memory = GuestMemory.allocate({ size: 4 << 20 })
  given.memory = memory
  const backend = await VhostNetBackend.open({ memory, queuePairs, tap: { ifname }, ...more })
  given.backend = backend
  const driver = Driver.create({ memory, features, queuePairs, queueSize: 16 })
  given.driver = driver
  return { memory, backend, driver }
}

/** Starts one pair of the driver's on the backend. */
export function start({ backend, driver }: Pick<Required<Given>, 'backend' | 'driver'>, pair = 0): void {
  const { rx, tx } = driver.pairs[pair]!
  backend.start(pair, { features, rx: rx.vring, tx: tx.vring })
}

/** All that a NIC takes: memory, kernel objects, rings, running pairs, a tap that is up and has an address. */
export async function bringUp(
  given: Given,
  { ifname, queuePairs = 1 }: { ifname: string; queuePairs?: number },
): Promise<Required<Given>> {
  const { memory, backend, driver } = await open(given, { ifname, queuePairs })
  for (let pair = 0; pair < queuePairs; pair++) start({ backend, driver }, pair)
  const netlink = RtNetlink.open()
  given.netlink = netlink
  const link = netlink.getLink({ ifname })
  assert.ok(link)
  netlink.addAddress(link.index, { address: '10.77.0.1', prefixLength: 24 })
  netlink.setLink(link.index, { up: true })
  return { memory, backend, driver, netlink }
}

/** Closes what came last first, each of it whatever becomes of the others; returns what was thrown. */
export function closeAll({ memory, backend, driver, netlink }: Given): unknown[] {
  return [netlink, driver && { close: () => driver.destroy() }, backend, memory].flatMap((object) => {
    try {
      object?.close()
      return []
    } catch (error) {
      return [error]
    }
  })
}

/** Whether the pair's transmit ring moves: the worker takes a frame of `size` bytes and gives it back. */
export async function moves(driver: Driver, pair: number, size = 60): Promise<boolean> {
  const { tx } = driver.pairs[pair]!
  const offsets = new Uint32Array(1)
  assert.equal(tx.allocate(offsets), 1)
  const burst = new Burst(1)
  burst.add(offsets[0]!, 12 + size)
  assert.equal(tx.send(burst), 1)
  await tx.drained(AbortSignal.timeout(20_000))
  return tx.inFlight === 0
}

/** Sends bursts of frames until the process or thread ends; calls `passing` once some have left. */
export async function sendForever(driver: Driver, passing: () => void): Promise<never> {
  const { tx } = driver.pairs[0]!
  const offsets = new Uint32Array(8)
  for (let frames = 0; ; frames += 8) {
    const burst = new Burst(8)
    for (let i = tx.allocate(offsets); i > 0; i--) burst.add(offsets[i - 1]!, 12 + 60)
    assert.equal(tx.send(burst), 8, 'buffers that were free fit into the ring')
    if (frames === 96) passing()
    await tx.drained()
    await setImmediate()
  }
}

/** What an operation failed with; undefined where it did not. */
export async function failureOf(body: () => unknown): Promise<unknown> {
  try {
    await body()
    return undefined
  } catch (error) {
    return error
  }
}
