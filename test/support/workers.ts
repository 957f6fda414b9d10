// Starts threads of child-worker.ts.

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
