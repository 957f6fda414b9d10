// What must be equal where nothing is under way any more: what a driver sent, what each tap counted, what the other driver
// received and checked. Pure.

/** One direction: everything that one NIC sent to the other since the soak began. */
export interface SoakSums {
  /** Frames given to the driver's rings. */
  sent: number
  /** Chains that the driver made available, and that came back. */
  available: number
  used: number
  /** The sender's tap: frames given to the host's stack, and those that it refused. */
  rx_packets: number
  rx_refused: number
  /** The receiver's tap: frames that its queues gave to vhost, and those for which they had no room. */
  tx_packets: number
  tx_dropped: number
  /** Frames that the receiver's driver took from its rings, and those of them that were what was sent. */
  received: number
  checked: number
  /** Sequence numbers that never came. */
  missing: number
  /** Frames that came behind a later one, and that came twice. */
  late: number
  doubled: number
}

/** Equal sums, and why. */
const RULES: readonly (readonly [rule: string, left: (sums: SoakSums) => number, right: (sums: SoakSums) => number])[] =
  [
    ['sent = available', ({ sent }) => sent, ({ available }) => available],
    ['available = used', ({ available }) => available, ({ used }) => used],
    ['used = rx_packets + rx_refused', ({ used }) => used, ({ rx_packets, rx_refused }) => rx_packets + rx_refused],
    [
      'rx_packets = tx_packets + tx_dropped',
      ({ rx_packets }) => rx_packets,
      ({ tx_packets, tx_dropped }) => tx_packets + tx_dropped,
    ],
    ['tx_packets = received', ({ tx_packets }) => tx_packets, ({ received }) => received],
    ['received = checked', ({ received }) => received, ({ checked }) => checked],
    [
      'missing = tx_dropped + rx_refused',
      ({ missing }) => missing,
      ({ tx_dropped, rx_refused }) => tx_dropped + rx_refused,
    ],
    ['none late', ({ late }) => late, () => 0],
    ['none doubled', ({ doubled }) => doubled, () => 0],
  ]

/** The rules that do not hold, with the numbers. */
export function differences(sums: SoakSums): string[] {
  return RULES.flatMap(([rule, left, right]) => {
    const [a, b] = [left(sums), right(sums)]
    return a === b ? [] : [`${rule}: ${a}, ${b}`]
  })
}

/** What came to it in between. */
export function since(before: SoakSums, now: SoakSums): SoakSums {
  const names = Object.keys(now) as (keyof SoakSums)[]
  return Object.fromEntries(names.map((name) => [name, now[name] - before[name]])) as unknown as SoakSums
}

/** What one checkpoint found. */
export interface Checkpoint {
  /** Frames sent so far, both ways. */
  packets: number
  seconds: number
  directions: SoakSums[]
  /** Resident memory of this process, bytes. */
  rss: number
  /** Everything that is not as it must be. */
  wrong: string[]
}
