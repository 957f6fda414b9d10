// Ways to receive, each for some time, while the injector feeds the tap.

import fs from 'node:fs'
import { Burst, type RxQueue } from '../../../lib/driver/index.ts'
import { deadline } from './measure.ts'
import { BATCH, RING } from './nic.ts'

/** fs.read() on their way: libuv's pool has four threads. */
const READS = 4
const LONGEST = 65536

/** Takes bursts of 64 until there is nothing left, and gives their buffers back. */
function receiveAll(rx: RxQueue, burst: Burst): number {
  for (let received = 0; ; ) {
    const count = rx.receive(burst)
    if (count === 0) return received
    rx.releaseBurst(burst)
    received += count
  }
}

/** Our driver from JavaScript: woken when half of the ring is full or a little time went by. */
export async function receiveBursts(rx: RxQueue, milliseconds: number): Promise<number> {
  const burst = new Burst(BATCH, RING)
  const over = deadline(milliseconds)
  let received = 0
  while (!over()) {
    received += receiveAll(rx, burst)
    await rx.readable(undefined, { frames: RING / 2, milliseconds: 100 })
  }
  return received
}

/** fs.read() on the tap's fd, each completion starting the next. */
export function readAsync(fd: number, milliseconds: number): Promise<number> {
  const over = deadline(milliseconds)
  let received = 0
  return new Promise((resolve, reject) => {
    let running = READS
    for (let i = 0; i < READS; i++) {
      const buffer = new Uint8Array(LONGEST)
      const next = (error: Error | null): void => {
        if (error !== null) reject(error)
        else received++
        if (!over()) fs.read(fd, buffer, 0, LONGEST, null, next)
        else if (--running === 0) resolve(received)
      }
      fs.read(fd, buffer, 0, LONGEST, null, next)
    }
  })
}
