// What becomes of a ring with something in it that a guest wrote, on the kernel's vhost-net, and of its device afterwards.

import { setTimeout } from 'node:timers/promises'
import { sendFrames } from './host-frames.ts'
import { MAC, type RawNic } from './raw-nic.ts'
import type { RingCase } from './ring-faults.ts'
import { soon } from './soon.ts'

/** Of the clock, which in a lab that shares its processors runs faster than the worker. */
const LIMIT_MS = 10_000

export interface RingOutcome {
  /** `'returned'`, the cause for which the device needs a reset, or `'nothing'` within 10 s. */
  outcome: string
  /** Index of the queue that the fault is about; null where there is none. */
  queue: number | null
  message: string | null
  /** For which the worker ran until then. */
  cpuMs: number
}

/** Has a driver come, spoil a ring, and waits for what becomes of it. */
export async function outcomeOf(raw: RawNic, { ring, spoil }: RingCase): Promise<RingOutcome> {
  raw.up()
  const before = raw.cpuMs
  const victim = raw.victim(ring)
  spoil(victim)
  raw.kick(ring)
  // What is wrong with room to receive into is found when something is received.
  if (ring === 'rx') await sendFrames(raw.nic.backend.ifname, MAC)
  const deadline = Date.now() + LIMIT_MS
  const returned = () => victim.ring.offered > 0 && victim.ring.usedIdx === victim.ring.offered
  while (raw.faults.length === 0 && !returned() && Date.now() < deadline) await setTimeout(1)
  const cpuMs = raw.cpuMs - before
  const fault = raw.faults[0]
  if (fault === undefined) return { outcome: returned() ? 'returned' : 'nothing', queue: null, message: null, cpuMs }
  return { outcome: fault.cause, queue: fault.queue ?? null, message: fault.message, cpuMs }
}

/** Resets the device, and passes a frame each way. @throws where one does not come */
export async function worksAgain(raw: RawNic): Promise<void> {
  raw.up()
  const { sent } = raw
  raw.offer('tx')
  raw.offer('rx')
  await soon('a frame of the guest', () => raw.rings.tx.usedIdx === 1 && raw.sent === sent + 1)
  await sendFrames(raw.nic.backend.ifname, MAC)
  await soon('a frame for the guest', () => raw.rings.rx.usedIdx === 1)
}
