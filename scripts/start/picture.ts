// Who has which packets: vCPU, vector, ring, vhost's worker, queue of the tap. Pure; lines of at most 100 columns.

import { count } from '../count.ts'
import type { Measured, PairPicture, RingPicture, WorkerPicture } from './measured.ts'
import { share } from './sums.ts'

/** Left of the line is the guest, right of it the host's kernel. */
interface Row {
  vcpu: string
  vector: string
  interrupts: string
  own: string
  ring: string
  packets: string
  usedIdx: string
  worker: string
  tap: string
}

const HEAD: Row = {
  vcpu: 'vCPU',
  vector: 'MSI-X',
  interrupts: 'interrupts',
  own: 'on it',
  ring: 'ring',
  packets: 'packets',
  usedIdx: 'used.idx',
  worker: 'vhost worker',
  tap: 'tap',
}

const percent = (ratio: number): string => `${(Math.floor(ratio * 1000) / 10).toFixed(1)} %`

function ringRow(name: 'rx' | 'tx', pair: PairPicture, ring: RingPicture): Omit<Row, 'vcpu' | 'worker' | 'tap'> {
  const { vector, irq, interrupts, packets, usedIdx } = ring
  return {
    vector: `${String(vector).padStart(2)} irq ${irq}`,
    interrupts: count(interrupts.reduce((sum, times) => sum + times, 0)),
    own: percent(share(ring, pair.vcpu)),
    ring: `${name} ${pair.index}`,
    packets: count(packets),
    usedIdx: String(usedIdx),
  }
}

const nameOf = (worker: WorkerPicture | null): string => worker?.name ?? 'not visible'
const timeOf = (worker: WorkerPicture | null): string =>
  worker === null ? 'from here' : `${worker.tid} ${(worker.cpuMs / 1000).toFixed(2)} s`

function rowsOf(pair: PairPicture): [Row, Row] {
  const { index, vcpu, rx, tx, worker, tapFd } = pair
  return [
    { ...ringRow('rx', pair, rx), vcpu: String(vcpu), worker: nameOf(worker), tap: `queue ${index}` },
    { ...ringRow('tx', pair, tx), vcpu: '', worker: timeOf(worker), tap: `fd ${tapFd}` },
  ]
}

/** Numbers end where the others do, names begin there. */
const RIGHT: readonly (keyof Row)[] = ['vcpu', 'interrupts', 'own', 'packets', 'usedIdx']

type Joints = readonly [vcpu: string, ring: string, border: string, worker: string, tap: string]
const NO_JOINTS: Joints = ['     ', '    ', '  │  ', '     ', '     ']
/** What is received goes from right to left, what is sent from left to right. */
const RX_JOINTS: Joints = [' ◄┬─ ', ' ◄─ ', ' ◄┼─ ', ' ◄┬─ ', ' ◄┬─ ']
const TX_JOINTS: Joints = ['  └─ ', ' ── ', ' ─┼► ', ' ─┘  ', ' ─┘  ']

function drawLine(row: Row, widths: Record<keyof Row, number>, joints: Joints): string {
  const cell = (key: keyof Row): string =>
    RIGHT.includes(key) ? row[key].padStart(widths[key]) : row[key].padEnd(widths[key])
  const [vcpu, ring, border, worker, tap] = joints
  const guest = `${cell('vcpu')}${vcpu}${cell('vector')}  ${cell('interrupts')}  ${cell('own')}  ${cell('ring')}${ring}${cell('packets')}`
  const host = `${cell('usedIdx')}${worker}${cell('worker')}${tap}${cell('tap')}`
  return `${guest}${border}${host}`.trimEnd()
}

/** The picture, without what is said about it. */
export function pictureLines({ pairs, nic }: Pick<Measured, 'pairs' | 'nic'>): string[] {
  const head = { ...HEAD, tap: `tap ${nic.ifname}` }
  const rows = pairs.map(rowsOf)
  const all = [head, ...rows.flat()]
  const keys = Object.keys(HEAD) as (keyof Row)[]
  const widths = Object.fromEntries(keys.map((key) => [key, Math.max(...all.map((row) => row[key].length))])) as Record<
    keyof Row,
    number
  >
  const first = drawLine(head, widths, NO_JOINTS)
  const border = first.indexOf('│')
  return [
    `${'guest'.padEnd(border)}│  host kernel`,
    first,
    ...rows.flatMap(([rx, tx]) => [drawLine(rx, widths, RX_JOINTS), drawLine(tx, widths, TX_JOINTS)]),
  ]
}
