// Ways to send, each for some time at full speed.

import fs from 'node:fs'
import { VIRTIO_NET_HDR_SIZE } from '../../../lib/abi/virtio-net.ts'
import { Burst, type TxQueue } from '../../../lib/driver/index.ts'
import { deadline } from './measure.ts'
import { BATCH, RING, writeFrame } from './nic.ts'

/** How many fs.write() are on their way: enough for libuv's pool of four threads never to be idle. */
const WRITES = 16

/** Fills the ring with frames for `repeat`. */
export function fillRing(tx: TxQueue, size: number): void {
  const burst = new Burst(RING)
  const count = tx.allocate(burst.offsets)
  for (let i = 0; i < count; i++) burst.add(burst.offsets[i] as number, VIRTIO_NET_HDR_SIZE + size)
  tx.send(burst)
}

/** Sends bursts of 64 until the ring is full. */
function sendUntilFull(tx: TxQueue, burst: Burst, length: number): number {
  for (let sent = 0; ; ) {
    const count = tx.prepare(burst, length)
    if (count === 0) return sent
    sent += tx.send(burst)
  }
}

/** Our driver from JavaScript, sleeping when the ring is full until most of it came back. */
export async function sendBursts(tx: TxQueue, size: number, milliseconds: number): Promise<number> {
  const burst = new Burst(BATCH)
  const over = deadline(milliseconds)
  let sent = 0
  while (!over()) {
    sent += sendUntilFull(tx, burst, VIRTIO_NET_HDR_SIZE + size)
    await tx.writable(undefined, { frames: RING - BATCH })
  }
  return sent
}

function frameOf(size: number): Uint8Array {
  const frame = new Uint8Array(VIRTIO_NET_HDR_SIZE + size)
  writeFrame(frame, 0)
  return frame
}

/** fs.writeSync() on the tap's fd. */
export async function writeSync(fd: number, size: number, milliseconds: number): Promise<number> {
  const frame = frameOf(size)
  const over = deadline(milliseconds)
  let sent = 0
  while (!over()) {
    for (let i = 0; i < BATCH; i++) fs.writeSync(fd, frame)
    sent += BATCH
  }
  return sent
}

/** fs.write() on the tap's fd, each completion starting the next. */
export function writeAsync(fd: number, size: number, milliseconds: number): Promise<number> {
  const frame = frameOf(size)
  const over = deadline(milliseconds)
  let sent = 0
  return new Promise((resolve, reject) => {
    let running = WRITES
    const next = (error: Error | null): void => {
      if (error !== null) reject(error)
      else sent++
      if (!over()) fs.write(fd, frame, next)
      else if (--running === 0) resolve(sent)
    }
    for (let i = 0; i < WRITES; i++) fs.write(fd, frame, next)
  })
}
