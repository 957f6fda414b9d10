// The result of `vhost-net loop`: what was counted, where it agrees, and what follows from that. Pure.
//
// Described by lib/cli/loop.schema.json.

import type { QueueCounters } from '../../driver/index.ts'
import type { LinkStats } from '../../host/index.ts'
import type { ReceivedFrames } from './endpoint.ts'
import { PINGS, type PingResult } from './ping.ts'

/** One ring, as the driver counted it, as it stands in guest memory, and where vhost says it stands. */
export interface RingReport {
  /** Chains made available to the device, and returned by it. */
  available: number
  used: number
  frames: number
  /** Without virtio headers. */
  bytes: number
  kicks: number
  kicksSuppressed: number
  calls: number
  /** avail.idx and used.idx. */
  availIdx: number
  usedIdx: number
  /** VHOST_GET_VRING_BASE after the stop: the available index that vhost would take next. */
  vhostBase: number
}

export interface PingReport {
  sent: number
  answered: number
  corrupt: number
  /** Null where none was answered. */
  minUs: number | null
  medianUs: number | null
  maxUs: number | null
  /** The pair each reply came back on. */
  receivedOn: number[]
}

export interface BulkReport {
  sent: number
  answered: number
  corrupt: number
  unexpected: number
  lost: number
}

export interface PairReport {
  index: number
  mac: string
  address: string
  /** The host's, found by ARP. */
  hostMac: string
  ping: PingReport
  bulk: BulkReport
  tx: RingReport
  rx: RingReport
  /** Frames of this pair's receive ring, by what they were. */
  received: ReceivedFrames
}

/** The tap's counters since the command began that a sum below uses, or that tell of a loss. */
export const TAP_COUNTERS = [
  'rx_packets',
  'rx_bytes',
  'rx_errors',
  'rx_dropped',
  'rx_frame_errors',
  'tx_packets',
  'tx_bytes',
  'tx_errors',
  'tx_dropped',
] as const

export type TapCounters = Record<(typeof TAP_COUNTERS)[number], number>

export interface TapReport {
  ifname: string
  mac: string
  address: string
  mtu: number
  counters: TapCounters
}

export interface FaultReport {
  pair: number
  ring: 'rx' | 'tx'
  errors: number
}

/** What was measured, from which everything else follows. */
export interface Measured {
  kernel: { sysname: string; release: string; version: string; machine: string }
  features: string[]
  tap: TapReport
  bulk: { milliseconds: number; payloadBytes: number; txFrames: number; rxFrames: number }
  pairs: PairReport[]
  faults: FaultReport[]
  /** What did not come to rest in time. */
  unsettled: string[]
}

/** Driver to kernel: what the rings count on the left, what tun counts on the right. */
export interface TxConservation {
  available: number
  used: number
  rx_packets: number
  rx_dropped: number
  rx_frame_errors: number
  exact: boolean
}

/** Kernel to driver. */
export interface RxConservation {
  received: number
  tx_packets: number
  exact: boolean
}

export interface LoopReport extends Measured {
  conservation: { tx: TxConservation; rx: RxConservation; positionsAgree: boolean }
  verdict: { ok: boolean; failures: string[] }
}

export function ringReport(counters: QueueCounters, vhostBase: number): RingReport {
  const { available, used, frames, bytes, kicks, kicksSuppressed, calls, availIdx, usedIdx } = counters
  return { available, used, frames, bytes, kicks, kicksSuppressed, calls, availIdx, usedIdx, vhostBase }
}

export function pingReport({ sent, rttUs, receivedOn, corrupt }: PingResult): PingReport {
  const sorted = rttUs.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  const at = (index: number): number | null => sorted[index] ?? null
  const [low, high] = [at(Math.floor(middle)), at(Math.ceil(middle))]
  return {
    sent,
    answered: sorted.length,
    corrupt,
    minUs: at(0),
    medianUs: low === null || high === null ? null : (low + high) / 2,
    maxUs: at(sorted.length - 1),
    receivedOn,
  }
}

/** What the tap counted in between. */
export function tapCounters(before: LinkStats, after: LinkStats): TapCounters {
  return Object.fromEntries(TAP_COUNTERS.map((name) => [name, after[name] - before[name]])) as TapCounters
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

/**
 * What tun is given by vhost ends in one of three counters of the tap: rx_packets, rx_dropped (no memory, link down) or
 * rx_frame_errors (a bad virtio header). They are disjoint: tun_get_user() and tun_xdp_one() leave before
 * dev_sw_netstats_rx_add() where they count another. rx_errors is never touched.
 */
export function conserveTx(pairs: readonly Pick<PairReport, 'tx'>[], tap: TapCounters): TxConservation {
  const available = sum(pairs.map(({ tx }) => tx.available))
  const used = sum(pairs.map(({ tx }) => tx.used))
  const { rx_packets, rx_dropped, rx_frame_errors } = tap
  const exact = available === used && used === rx_packets + rx_dropped + rx_frame_errors
  return { available, used, rx_packets, rx_dropped, rx_frame_errors, exact }
}

/** tx_packets counts what vhost has taken from the tap (tun_put_user); tx_dropped never got into its queue. */
export function conserveRx(pairs: readonly Pick<PairReport, 'rx'>[], tap: TapCounters): RxConservation {
  const received = sum(pairs.map(({ rx }) => rx.frames))
  return { received, tx_packets: tap.tx_packets, exact: received === tap.tx_packets }
}

/** Whether a stopped ring is, to driver, memory and vhost, at the same place: indices are 16 bits wide (2.7.6). */
export function positionsAgree({ available, used, availIdx, usedIdx, vhostBase }: RingReport): boolean {
  return availIdx === available % 0x10000 && usedIdx === used % 0x10000 && vhostBase === usedIdx
}

function failuresOf(measured: Measured, tx: TxConservation, rx: RxConservation): string[] {
  const { pairs, faults, unsettled } = measured
  const failures = [...unsettled]
  const add = (failed: boolean, text: string): void => {
    if (failed) failures.push(text)
  }
  for (const { pair, ring, errors } of faults) failures.push(`pair ${pair} ${ring}: vhost reported ${errors} errors`)
  add(!tx.exact, 'TX is not conserved')
  add(!rx.exact, 'RX is not conserved')
  for (const { index, ping, bulk, tx, rx } of pairs) {
    const { answered, sent, corrupt } = ping
    const why = answered === 0 ? ' (a firewall, or net.ipv4.icmp_echo_ignore_all, may forbid it)' : ''
    add(answered < PINGS, `pair ${index}: ${answered} of ${sent} pings were answered${why}`)
    add(corrupt > 0, `pair ${index}: ${corrupt} ping replies were not what was sent`)
    add(bulk.answered === 0, `pair ${index}: none of ${bulk.sent} bulk echo requests was answered`)
    add(bulk.corrupt > 0, `pair ${index}: ${bulk.corrupt} bulk echo replies were not what was sent`)
    add(bulk.unexpected > 0, `pair ${index}: ${bulk.unexpected} bulk echo replies nobody waited for`)
    for (const [ring, report] of Object.entries({ tx, rx })) {
      const { availIdx, usedIdx, vhostBase } = report
      const where = `avail.idx ${availIdx}, used.idx ${usedIdx}, vhost base ${vhostBase}`
      add(!positionsAgree(report), `pair ${index} ${ring}: the ring's positions disagree (${where})`)
    }
  }
  return failures
}

export function report(measured: Measured): LoopReport {
  const { pairs, tap } = measured
  const tx = conserveTx(pairs, tap.counters)
  const rx = conserveRx(pairs, tap.counters)
  const failures = failuresOf(measured, tx, rx)
  return {
    ...measured,
    conservation: { tx, rx, positionsAgree: pairs.every((pair) => positionsAgree(pair.tx) && positionsAgree(pair.rx)) },
    verdict: { ok: failures.length === 0, failures },
  }
}
