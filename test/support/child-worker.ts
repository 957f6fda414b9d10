// A worker thread that uses the addon on its own. `workerData`: what to do, and the name of its tap.

import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { EventFd, watchReadable } from '../../lib/event/index.ts'
import { bringUp, closeAll, type Given, moves, sendForever } from './bring-up.ts'

export interface WorkerTask {
  /** `close` closes all it opens, `leave` ends without that, `send` has frames pass, once it is told to, until it is ended from outside. */
  then: 'close' | 'leave' | 'send'
  ifname: string
  rounds: number
}

const { then, ifname, rounds } = workerData as WorkerTask
const given: Given = {}

for (let round = 0; round < rounds; round++) {
  const { driver } = await bringUp(given, { ifname })
  const moved = await moves(driver, 0)
  const event = EventFd.create()
  const counted = await new Promise<bigint>((resolve) => {
    const watch = watchReadable(
      event,
      () => {
        resolve(event.read())
        if (then !== 'send') watch.stop()
      },
      { keepAlive: true },
    )
    event.signal(5n)
  })
  const tell = (): void => parentPort!.postMessage({ round, moved, counted })
  tell()
  if (then === 'send') {
    await once(parentPort!, 'message')
    await sendForever(driver, tell)
  }
  if (then !== 'close') continue
  event.close()
  const [error] = closeAll(given)
  if (error !== undefined) throw error
}

// The driver's queues wait for calls and would keep the thread alive.
if (then === 'leave') process.exit(0)
