// What `npm run faults` tells; 100 columns.

import type { RingCase } from '../../test/support/ring-faults.ts'
import type { RingOutcome } from '../../test/support/ring-outcome.ts'

/** Of the worker, until a fault is found. */
export const MOST_CPU_MS = 500

export interface FaultRow extends Pick<RingCase, 'name' | 'ring'>, Pick<RingOutcome, 'outcome' | 'cpuMs'> {
  transport: 'mmio' | 'pci'
  expected: string
  /** Whether frames pass both ways after a reset; what did not, else. */
  again: 'works' | string
}

export function isInOrder({ outcome, expected, cpuMs, again }: FaultRow): boolean {
  return outcome === expected && cpuMs <= MOST_CPU_MS && again === 'works'
}

const HEAD = ['over', 'ring', 'what the guest writes', 'what becomes of it', 'CPU ms', 'then']
const WIDTHS = [4, 4, 49, 23, 6, 5]

const line = (cells: readonly string[]): string =>
  cells
    .map((cell, i) => (i === 4 ? cell.padStart(WIDTHS[i]!) : cell.padEnd(WIDTHS[i]!)))
    .join(' ')
    .trimEnd()

export function faultLine(row: FaultRow): string {
  const { transport, ring, name, outcome, cpuMs, again } = row
  return `${line([transport, ring, name, outcome, cpuMs.toFixed(), again])}${isInOrder(row) ? '' : '  <<<'}`
}

export const faultHead = (): string[] => [line(HEAD), line(WIDTHS.map((width) => '─'.repeat(width)))]

export function faultEnd(rows: readonly FaultRow[]): string {
  const good = rows.filter(isInOrder).length
  const most = Math.max(0, ...rows.map(({ cpuMs }) => cpuMs))
  return `${good} of ${rows.length} as they are to be; ${most.toFixed()} ms of the worker at most`
}
