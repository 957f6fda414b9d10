// After whatever was done to a device: it is reset, and a guest that does nothing wrong moves frames both ways.

import type { FuzzGuest } from './guest.ts'
import { RX_POOL, SLOT_SIZE, TX_POOL } from './guest.ts'
import { must, until } from './oracle.ts'

const NUM = 16
const FRAME = 72

export async function revive(guest: FuzzGuest): Promise<void> {
  const { device, operations, coverage } = guest
  operations.remark('a good guest')
  if (!guest.linkUp) {
    guest.linkUp = true
    device.nic.setLink(true)
  }
  guest.begin()
  guest.accept(guest.offered)
  const [rx, tx] = guest.queues.slice(0, 2)
  for (const queue of [rx!, tx!]) guest.setUp(queue, SLOT_SIZE * queue.index, NUM)
  guest.ready()
  const before = device.received
  rx!.ring!.chain([{ address: RX_POOL, length: 2048, deviceWrites: true }])
  rx!.ring!.offer(0)
  guest.kick(0)
  tx!.ring!.chain([{ address: TX_POOL, length: FRAME }])
  tx!.ring!.offer(0)
  guest.kick(1)
  await device.sendFrame()
  const sent = (): boolean => tx!.ring!.idle && device.received > before
  const received = (): boolean => rx!.ring!.idle
  const what = (): string => {
    return `a good guest's frames: ${sent() ? 'sent' : 'not sent'}, ${received() ? 'received' : 'not received'}`
  }
  await until(device, what, () => received() && sent())
  guest.judge()
  must(guest.fault === undefined, () => 'the device needs a reset')
  coverage.revived++
}
