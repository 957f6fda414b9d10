// Brings the traffic to rest, so that rings and tap can be counted at one moment in which nothing moves.

import { setMaxListeners } from 'node:events'
import type { PairBases } from '../../backend/index.ts'
import type { EchoFlow } from './bulk.ts'
import { deadline } from './deadline.ts'
import type { Endpoints } from './endpoints.ts'
import type { Rig } from './rig.ts'

/** How long nothing has to move before what is missing counts as lost. */
const STALL_MS = 5000

export interface Quiet {
  /** What did not come to rest in time. */
  failures: string[]
  /** vhost's own position in each ring. */
  bases: PairBases[]
}

export async function quiesce(
  rig: Rig,
  endpoints: Endpoints,
  flows: readonly EchoFlow[],
  signal: AbortSignal,
): Promise<Quiet> {
  const stalled = endpoints.stalled(STALL_MS, signal)
  const failures: string[] = []

  // Every echo comes back unless the tap's queue was full; the counter is read only while some are missing.
  const dropped = () => rig.link().stats.tx_dropped - rig.statsBefore.tx_dropped
  const lost = () => flows.reduce((sum, flow) => sum + flow.lost, 0)
  await endpoints.until(() => lost() === 0 || lost() <= dropped(), stalled)
  signal.throwIfAborted()

  // From here on the kernel sends nothing; what lies in the tap's queues, vhost still brings (tun_net_close keeps it).
  rig.linkDown()
  const arrived = () => endpoints.received === rig.link().stats.tx_packets - rig.statsBefore.tx_packets
  if (!(await endpoints.until(arrived, stalled))) {
    failures.push(`frames that the tap counted did not arrive, and nothing moved for ${STALL_MS / 1000} s`)
  }
  signal.throwIfAborted()

  // Nothing is received any more, so no ARP request is answered: what is available now is all there will be.
  await endpoints.stop()
  failures.push(...(await drain(endpoints, signal)))
  const bases = rig.stop()
  endpoints.takeRest()
  return { failures, bases }
}

/** Waits until the device has returned all that was sent. @returns what it kept */
async function drain({ all }: Endpoints, signal: AbortSignal): Promise<string[]> {
  const limit = deadline(STALL_MS, signal)
  setMaxListeners(0, limit)
  const kept = await Promise.all(
    all.map(async ({ tx }) => {
      try {
        await tx.drained(limit)
        return []
      } catch (error) {
        if (!limit.aborted) throw error
        return [`${tx.name}: ${tx.inFlight} chains were not returned within ${STALL_MS / 1000} s`]
      }
    }),
  )
  signal.throwIfAborted()
  return kept.flat()
}
