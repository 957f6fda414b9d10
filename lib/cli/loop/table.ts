// The result of `vhost-net loop` for people: lines of at most 100 columns.

import type { Paint } from './paint.ts'
import type { LoopReport, PairReport, PingReport, RingReport } from './report.ts'

const columns = [
  'pair',
  'ring',
  'frames',
  'bytes',
  'kicks',
  'calls',
  'avail.idx',
  'used.idx',
  'vhost',
  'RTT µs',
] as const

// By hand: the first use of Intl loads its tables, which would keep the rings waiting in the middle of a run.
function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',')
}

function us(value: number | null): string {
  return value === null ? '-' : value.toFixed(0)
}

function ringRow({ frames, bytes, kicks, calls, availIdx, usedIdx, vhostBase }: RingReport): string[] {
  return [frames, bytes, kicks, calls].map(count).concat([availIdx, usedIdx, vhostBase].map(String))
}

function rows({ index, tx, rx, ping }: PairReport): string[][] {
  return [
    [String(index), 'tx', ...ringRow(tx), us(ping.medianUs)],
    ['', 'rx', ...ringRow(rx), ''],
  ]
}

function totals(pairs: readonly PairReport[], ring: 'tx' | 'rx'): string[] {
  const sum = (field: 'frames' | 'bytes' | 'kicks' | 'calls'): string =>
    count(pairs.reduce((total, pair) => total + pair[ring][field], 0))
  return [ring === 'tx' ? 'sum' : '', ring, sum('frames'), sum('bytes'), sum('kicks'), sum('calls'), '', '', '', '']
}

function align(table: readonly (readonly string[])[]): string[] {
  const widths = columns.map((_, column) => Math.max(...table.map((row) => (row[column] ?? '').length)))
  return table.map((row) =>
    row
      .map((cell, column) => cell.padStart(widths[column] as number))
      .join('  ')
      .trimEnd(),
  )
}

/** `pair 0  10.255.0.2  5 of 5 pings answered  RTT min/median/max 61/70/132 µs  on pair 0` */
export function pingLine({ index, address, ping }: { index: number; address: string; ping: PingReport }): string {
  const { sent, answered, minUs, medianUs, maxUs, receivedOn } = ping
  const on = [...new Set(receivedOn)].join(', ')
  const times = `RTT min/median/max ${us(minUs)}/${us(medianUs)}/${us(maxUs)} µs`
  const where = on === '' ? '' : `  replies on pair ${on}`
  return `pair ${index}  ${address}  ${answered} of ${sent} pings answered  ${times}${where}`
}

/** `1,234 frames/s` */
export function rate(frames: number, milliseconds: number): string {
  return `${count(Math.round((frames / milliseconds) * 1000))} frames/s`
}

function bulkLines({ bulk, pairs, tap }: LoopReport): string[] {
  const sum = (field: keyof PairReport['bulk']): number => pairs.reduce((total, pair) => total + pair.bulk[field], 0)
  const { milliseconds, payloadBytes, txFrames, rxFrames } = bulk
  return [
    `bulk  ${(milliseconds / 1000).toFixed(2)} s of echo requests with ${payloadBytes} bytes: ` +
      `tx ${rate(txFrames, milliseconds)}, rx ${rate(rxFrames, milliseconds)}`,
    `      ${count(sum('sent'))} sent = ${count(sum('answered'))} answered intact + ${count(sum('corrupt'))} corrupt ` +
      `+ ${count(sum('lost'))} lost`,
    `      ${count(tap.counters.tx_dropped)} tx_dropped by the tap; ${count(sum('unexpected'))} replies unexpected`,
  ]
}

function conservationLines({ conservation: { tx, rx, positionsAgree } }: LoopReport, paint: Paint): string[] {
  const verdict = (exact: boolean): string => (exact ? paint.good('exact') : paint.bad('NOT EXACT'))
  return [
    `TX  ${tx.available} available = ${tx.used} used = ${tx.rx_packets} rx_packets + ${tx.rx_dropped} rx_dropped ` +
      `+ ${tx.rx_frame_errors} rx_frame_errors  ${verdict(tx.exact)}`,
    `RX  ${rx.received} used, not discarded = ${rx.tx_packets} tx_packets  ${verdict(rx.exact)}`,
    `Every ring is where vhost left it (used.idx = vhost base)  ${positionsAgree ? paint.good('yes') : paint.bad('NO')}`,
  ]
}

/** Everything after the pings, as lines. */
export function resultLines(result: LoopReport, paint: Paint): string[] {
  const { pairs, tap, verdict } = result
  const table = [columns as readonly string[], ...pairs.flatMap(rows), totals(pairs, 'tx'), totals(pairs, 'rx')]
  const [head = '', ...body] = align(table)
  const counters = Object.entries(tap.counters).map(([name, value]) => `${name} ${count(value)}`)
  return [
    ...bulkLines(result),
    '',
    paint.strong(head),
    ...body,
    '',
    `tap ${tap.ifname}  ${counters.slice(0, 5).join('  ')}`,
    `${' '.repeat(tap.ifname.length + 6)}${counters.slice(5).join('  ')}`,
    '',
    ...conservationLines(result, paint),
    ...verdict.failures.map((failure) => paint.bad(`FAILED  ${failure}`)),
  ]
}

/** Words in lines of at most 100 columns, indented. */
function paragraph(words: readonly string[]): string[] {
  const lines: string[] = []
  for (const word of words) {
    const last = lines.at(-1)
    if (last === undefined || last.length + 1 + word.length > 100) lines.push(`  ${word}`)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}

/** What runs where. */
export function headLine({
  kernel,
  tap,
  features,
  pairs,
}: Pick<LoopReport, 'kernel' | 'tap' | 'features'> & { pairs: number }): string {
  const short = features.map((name) => name.replace(/^VIRTIO_(NET_|RING_)?F_/, ''))
  return [
    `${kernel.sysname} ${kernel.release} ${kernel.machine}: tap ${tap.ifname} ${tap.address} mtu ${tap.mtu}`,
    `virtio-net over virtio-mmio, ${pairs} queue pair${pairs === 1 ? '' : 's'} on vhost-net; agreed on`,
    ...paragraph(short),
  ].join('\n')
}
