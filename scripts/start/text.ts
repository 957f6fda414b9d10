// What `npm start` tells people of each step, and of the whole at the end. Pure; lines of at most 100 columns.

import type { Paint } from '../../lib/cli/loop/paint.ts'
import type { TapCounters } from '../../lib/cli/loop/report.ts'
import { count } from '../count.ts'
import type { IperfReport, Measured, PairsChange, PingReport } from './measured.ts'
import { pictureLines } from './picture.ts'
import type { StartReport } from './report.ts'
import { featureLines, paragraph } from './words.ts'

const MiB = 2 ** 20
const HEAD = 8

const headed = (head: string, text: string): string => `${head.padEnd(HEAD)}${text}`

export function headLines({ host, guest, nic }: Pick<Measured, 'host' | 'guest' | 'nic'>): string[] {
  const { kernel, cpu, cpus, lab } = host
  return [
    headed('host', `Linux ${kernel}, ${cpus} × ${cpu}`),
    ...(lab ? [headed('', 'emulated by QEMU: rates and times say nothing of those on a real CPU')] : []),
    headed(
      'guest',
      `Linux ${guest.kernel}, booted from Debian's own ${guest.image}; ${guest.vcpus} vCPUs, ${guest.memory / MiB} MiB`,
    ),
    headed('', `its shell was there after ${(guest.bootMs / 1000).toFixed(1)} s`),
    headed(
      'nic',
      `${nic.mac} over virtio-pci, ${nic.queuePairs} queue pairs on vhost-net; tap ${nic.ifname}, ${nic.address}`,
    ),
  ]
}

export function dhcpLine({ address, server, leaseSeconds }: Measured['dhcp']): string {
  return headed('dhcp', `${address} from ${server}, for ${count(leaseSeconds)} s`)
}

const ms = (value: number | null): string => (value === null ? '-' : value.toFixed(1))

const pinged = ({ sent, answered, minMs, avgMs, maxMs }: PingReport): string =>
  `${answered} of ${sent} answered, RTT min/avg/max ${ms(minMs)}/${ms(avgMs)}/${ms(maxMs)} ms`

export function pingLines({ fromGuest, fromHost }: Measured['ping']): string[] {
  return [
    ...fromGuest.map((report, vcpu) => headed(vcpu === 0 ? 'ping' : '', `from vCPU ${vcpu}   ${pinged(report)}`)),
    headed('', `from the host ${pinged(fromHost)}`),
  ]
}

export function changesHead(): string[] {
  return [
    'ethtool -L eth0 combined N, while each vCPU pings:',
    '  N  the guest then has    the device runs  the tap has   packets sent then, by pair',
  ]
}

export function changeLine({ pairs, guest, device, tap, sent }: PairsChange): string {
  const cells = [
    `  ${pairs}`.padEnd(5),
    `${guest.rx} rx, ${guest.tx} tx queues`.padEnd(22),
    `${device} ${device === 1 ? 'pair' : 'pairs'}`.padEnd(17),
    `${tap.attached}, ${tap.waiting} wait`.padEnd(14),
    sent.map(count).join('  '),
  ]
  return cells.join('')
}

export const changesEnd = ({ sent, answered }: Measured['changes']['pings']): string =>
  `  ${count(answered)} of ${count(sent)} pings were answered`

const mbits = (kbits: number): string => (kbits / 1000).toFixed(1)

/** What passed the tap in so many milliseconds: it receives what the guest sends. */
export function rates({ rx_bytes, rx_packets, tx_bytes, tx_packets }: TapCounters, milliseconds: number): string {
  const way = (words: string, bytes: number, packets: number): string =>
    `${words} ${mbits((8 * bytes) / milliseconds)} Mbit/s, ${count(Math.round((1000 * packets) / milliseconds))} packets/s`
  return `${way('to the host', rx_bytes, rx_packets)}; ${way('to the guest', tx_bytes, tx_packets)}`
}

export function iperfLine(way: string, { seconds, kbits }: IperfReport): string {
  const sum = mbits(kbits.reduce((total, rate) => total + rate, 0))
  return headed('iperf3', `${way}, ${seconds} s: ${kbits.map(mbits).join(' + ')} = ${sum} Mbit/s, by vCPU`)
}

const LEGEND =
  "Packets are the guest's own count, used.idx is what the host's kernel wrote into guest memory (modulo 65536; on rx it counts " +
  'buffers, of which a large packet takes several). Interrupts are those while iperf3 ran. Under each worker: its thread, and its CPU time.'

function tapLines({ nic, tap }: StartReport): string[] {
  const counters = Object.entries(tap).map(([name, value]) => `${name} ${count(value)}`)
  return paragraph(
    `tap ${nic.ifname}  `,
    counters.map((text) => text.replace(' ', '\u00a0')),
  ).map((line) => line.replaceAll('\u00a0', ' '))
}

/** Everything after the steps. */
export function resultLines(report: StartReport, paint: Paint): string[] {
  const { sums, verdict, features } = report
  // Sums are told as such.
  const failures = verdict.failures.filter((text) => !sums.some(({ sentence }) => text.endsWith(sentence)))
  const [title = '', head = '', ...rows] = pictureLines(report)
  return [
    paint.strong(title),
    paint.strong(head),
    ...rows,
    ...paragraph('', LEGEND.split(' ')),
    '',
    ...tapLines(report),
    '',
    ...sums.map(({ sentence, holds }) => `${holds ? paint.good('holds') : paint.bad('WRONG')}  ${sentence}`),
    '',
    ...featureLines(features),
    ...(failures.length > 0 ? [''] : []),
    ...failures.map((failure) => paint.bad(`FAILED  ${failure}`)),
  ]
}
