// The result of `npm start`: what was done and counted, which sums hold, and what follows from that. Pure.
//
// Described by scripts/start/start.schema.json.

import type { Measured, PingReport } from './measured.ts'
import { type Sum, sumsOf } from './sums.ts'

export interface StartReport extends Measured {
  sums: Sum[]
  verdict: { ok: boolean; failures: string[] }
}

const unanswered = ({ sent, answered }: PingReport): string => `${answered} of ${sent} pings were answered`

function failuresOf(measured: Measured, sums: readonly Sum[]): string[] {
  const { ping, changes, iperf, faults, pairs } = measured
  const failures = [...faults]
  const add = (failed: boolean, text: string): void => {
    if (failed) failures.push(text)
  }
  for (const [vcpu, report] of ping.fromGuest.entries()) {
    add(report.answered < report.sent, `from vCPU ${vcpu} of the guest ${unanswered(report)}`)
  }
  add(ping.fromHost.answered < ping.fromHost.sent, `from the host ${unanswered(ping.fromHost)}`)
  for (const { pairs, guest, device, tap, sent, idleMoved } of changes.steps) {
    const followed = [guest.rx, guest.tx, device, tap.attached].every((count) => count === pairs)
    const counts = `${guest.rx} rx and ${guest.tx} tx queues in the guest, ${device} pairs, ${tap.attached} queues of the tap`
    add(!followed, `after ethtool -L eth0 combined ${pairs}: ${counts}`)
    add(idleMoved, `with ${pairs} in use another pair moved`)
    for (const [pair, packets] of sent.entries()) add(packets === 0, `with ${pairs} in use pair ${pair} stood still`)
  }
  for (const [way, { kbits }] of Object.entries({ 'the host': iperf.toHost, 'the guest': iperf.toGuest })) {
    for (const [vcpu, rate] of kbits.entries()) add(rate === 0, `to ${way}: iperf3 on vCPU ${vcpu} moved nothing`)
  }
  const tids = pairs.flatMap(({ worker }) => worker?.tid ?? [])
  add(new Set(tids).size < tids.length, `pairs share a worker: ${tids.join(', ')}`)
  for (const { sentence, holds } of sums) add(!holds, `does not hold: ${sentence}`)
  return failures
}

export function report(measured: Measured): StartReport {
  const sums = sumsOf(measured)
  const failures = failuresOf(measured, sums)
  return { ...measured, sums, verdict: { ok: failures.length === 0, failures } }
}
