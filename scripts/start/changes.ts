// Queue pairs that come and go while packets pass: what the guest sees of it, the device and the host's kernel.

import type { TunInfo } from '../../lib/host/index.ts'
import type { VirtioNet } from '../../lib/index.ts'
import type { CounterReader, NicCounters } from '../guest/queue-counters.ts'
import type { StockGuest } from '../guest/stock-guest.ts'
import type { PairsChange } from './measured.ts'

/** In which each pair that is in use has something to send. */
const MOVE_MS = 30_000

type Guest = Pick<StockGuest, 'run' | 'try'>

/** `rx-0 rx-1 tx-0 tx-1` */
export function parseQueues(text: string): { rx: number; tx: number } {
  const of = (ring: string) => text.split(/\s+/).filter((name) => name.startsWith(`${ring}-`)).length
  return { rx: of('rx'), tx: of('tx') }
}

/** @param tap what the host's kernel says of it */
export async function changePairs(
  guest: Guest,
  counters: CounterReader,
  nic: VirtioNet,
  tap: () => TunInfo,
  pairs: number,
): Promise<PairsChange> {
  await guest.run(`ethtool -L eth0 combined ${pairs}`)
  const queues = parseQueues(await guest.run('ls /sys/class/net/eth0/queues'))
  const idle = () => nic.queues.slice(2 * pairs, 2 * nic.queuePairs).map((queue) => queue.usedIndex())
  const idleBefore = idle()
  const before = await counters.read()
  const sentSince = ({ tx }: NicCounters) => tx.map(({ packets }, pair) => packets - before.tx[pair]!.packets)
  const until = performance.now() + MOVE_MS
  let sent = sentSince(await counters.read())
  // One that stands still after all is for the report to tell.
  while (sent.includes(0) && performance.now() < until) sent = sentSince(await counters.read())
  const { numqueues = 0, numdisabled = 0 } = tap()
  return {
    pairs,
    guest: queues,
    device: nic.inspect().activePairs,
    tap: { attached: numqueues, waiting: numdisabled },
    sent,
    idleMoved: idle().some((index, i) => index !== idleBefore[i]),
  }
}
