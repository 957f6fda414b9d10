// What a guest's virtio_net driver has counted on each of its queues.

import { exchange, familyRequest, parseFamily, parseQueueStats, queueStatsRequest } from './netdev-genl.ts'

export interface QueueCounters {
  packets: number
  bytes: number
  kicks: number
}

/** By pair, of those that are in use. */
export interface NicCounters {
  rx: QueueCounters[]
  tx: QueueCounters[]
}

/** `rx_queue_0_packets`; from Linux 6.10 on `rx0_kicks`, and the others are told by netlink. */
const COUNTER = /^\s*(rx|tx)(?:_queue_)?(\d+)_(packets|bytes|kicks): (\d+)$/gm

/** What ethtool -S has of them. */
export function parseEthtool(text: string): { rx: Partial<QueueCounters>[]; tx: Partial<QueueCounters>[] } {
  const counters: ReturnType<typeof parseEthtool> = { rx: [], tx: [] }
  for (const [, ring, pair, counter, value] of text.matchAll(COUNTER)) {
    const queues = counters[ring as 'rx' | 'tx']
    queues[Number(pair)] ??= {}
    queues[Number(pair)]![counter as keyof QueueCounters] = Number(value)
  }
  return counters
}

const isWhole = (queue: Partial<QueueCounters>): queue is QueueCounters =>
  queue.packets !== undefined && queue.bytes !== undefined && queue.kicks !== undefined

/** Reads them in a guest. */
export class CounterReader {
  readonly #guest: { run(command: string): Promise<string> }
  readonly #ifname: string
  #request: Uint8Array | undefined

  constructor(guest: { run(command: string): Promise<string> }, ifname: string) {
    this.#guest = guest
    this.#ifname = ifname
  }

  async read(): Promise<NicCounters> {
    // A console is slow: what is not wanted stays in the guest.
    const ethtool = `ethtool -S ${this.#ifname} | grep -E '[0-9]_(packets|bytes|kicks):'`
    const { rx, tx } = parseEthtool(await this.#guest.run(ethtool))
    const queues = { rx, tx }
    if (![...rx, ...tx].every(isWhole)) {
      this.#request ??= await this.#makeRequest()
      for (const { ring, pair, ...stats } of parseQueueStats(await this.#guest.run(exchange(this.#request)))) {
        queues[ring][pair] = { ...queues[ring][pair], ...stats }
      }
    }
    const whole = { rx: rx.filter(isWhole), tx: tx.filter(isWhole) }
    if (whole.rx.length === rx.length && whole.tx.length === tx.length && rx.length > 0) return whole
    throw new Error(`the guest does not count the packets of each queue: ${JSON.stringify(queues)}`)
  }

  async #makeRequest(): Promise<Uint8Array> {
    const family = parseFamily(await this.#guest.run(exchange(familyRequest())))
    const ifindex = Number(await this.#guest.run(`cat /sys/class/net/${this.#ifname}/ifindex`))
    return queueStatsRequest(family, ifindex)
  }
}
