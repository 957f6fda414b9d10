// What bringing queue pairs up and down takes in system calls.

import { VIRTIO_F } from '../../../lib/abi/virtio.ts'
import { VhostNetBackend } from '../../../lib/backend/index.ts'
import { Driver } from '../../../lib/driver/index.ts'
import { GuestMemory } from '../../../lib/memory/index.ts'
import { SystemCalls } from '../../support/system-calls.ts'

export interface PairCalls {
  pairs: number
  /** System calls of all pairs together. */
  open: number
  start: number
  stop: number
  close: number
}

const features = 1n << BigInt(VIRTIO_F.VIRTIO_F_VERSION_1)

async function countPairs(calls: SystemCalls, queuePairs: number): Promise<PairCalls> {
  const layout = { features, queuePairs, queueSize: 2, bufferSize: 128 }
  using memory = GuestMemory.allocate({ size: Driver.memoryNeeded(layout) })
  const driver = Driver.create({ memory, ...layout })
  let backend: VhostNetBackend | undefined
  const open = await calls.of(async () => {
    backend = await VhostNetBackend.open({ memory, queuePairs, tap: { ifname: 'bench%d' } })
  })
  const each = (step: (pair: number) => void) => () => {
    for (let pair = 0; pair < queuePairs; pair++) step(pair)
  }
  const start = await calls.of(
    each((pair) => {
      const { rx, tx } = driver.pairs[pair] as (typeof driver.pairs)[number]
      backend?.start(pair, { features, rx: rx.vring, tx: tx.vring })
    }),
  )
  const stop = await calls.of(each((pair) => backend?.stop(pair)))
  const close = await calls.of(() => backend?.close())
  driver.destroy()
  return { pairs: queuePairs, open, start, stop, close }
}

export async function countAllPairs(sizes: readonly number[]): Promise<PairCalls[]> {
  using calls = new SystemCalls()
  // What is done once for a process is not what a pair takes.
  await countPairs(calls, 1)
  const counts: PairCalls[] = []
  for (const pairs of sizes) counts.push(await countPairs(calls, pairs))
  return counts
}
