// Starts threads of child-worker.ts.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { WorkerTask } from './child-worker.ts'

const script = new URL('./child-worker.js', import.meta.url)

/** `count` threads at once, each with a tap of its own. */
export function startWorkers(then: WorkerTask['then'], count: number, rounds = 1): Worker[] {
  return Array.from({ length: count }, (_, index) => {
    const workerData: WorkerTask = { then, ifname: `worker${index}`, rounds }
    return new Worker(script, { workerData })
  })
}

/** What a worker tells when its NIC works. */
export const WORKS = { moved: true, counted: 5n }

/** Threads whose frames pass, all of them, when this resolves. */
export async function startSenders(count: number): Promise<Worker[]> {
  const workers = startWorkers('send', count)
  const messages = () => Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0] as unknown))
  // They begin together: one that sends would keep others from starting.
  for (const message of await messages()) assert.deepEqual(message, { round: 0, ...WORKS })
  const passing = messages()
  for (const worker of workers) worker.postMessage('send')
  await passing
  return workers
}
