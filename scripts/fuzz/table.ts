// What `npm run fuzz` tells; 100 columns.

import type { FuzzReport } from '../../test/support/fuzz/run.ts'
import { count } from '../count.ts'
import type { Machine } from '../stress/table.ts'

const NAMES_WIDTH = 27

/** Nothing failed, and it came to see what it should. */
export function isClean({ failed, missed }: FuzzReport): boolean {
  return failed === null && missed.length === 0
}

export function fuzzTable(report: FuzzReport, { kernel, lab, cpu, cpus }: Machine): string[] {
  const line = (name: string, value: string): string => `${name.padEnd(NAMES_WIDTH)}${value}`
  const { seed, seconds, episodes, over, lives, driverOk, moving, revived, packets, operations, failed, missed } =
    report
  const { total, ...kinds } = operations
  const percent = (part: number): string => `${((100 * part) / Math.max(1, episodes)).toFixed()} %`
  const byKind = Object.entries(kinds).map(([kind, number]) => line(`  ${kind}`, count(number)))
  const commands = Object.entries(report.commands).sort(([a], [b]) => a.localeCompare(b))
  const causes = Object.entries(report.causes).sort(([a], [b]) => a.localeCompare(b))
  return [
    line('seed', String(seed)),
    line('episodes', `${count(episodes)}: ${count(over.mmio)} over MMIO, ${count(over.pci)} over PCI`),
    line('  to DRIVER_OK', percent(driverOk)),
    line('  a packet moved', percent(moving)),
    line('  a good guest after', count(revived)),
    line('guests', count(lives)),
    line('frames sent', count(packets)),
    line('operations', `${count(total)}, ${count(Math.round(total / seconds))} a second`),
    ...byKind,
    line('commands', 'answered OK, and ERR'),
    ...commands.map(([name, { ok, err }]) => line(`  ${name}`, `${count(ok)}  ${count(err)}`)),
    line('needed a reset', ''),
    ...causes.map(([cause, number]) => line(`  ${cause}`, count(number))),
    line('duration', `${seconds.toFixed(1)} s`),
    line('on', `Linux ${kernel}, ${cpus} × ${cpu}${lab ? ', emulated' : ''}`),
    ...missed.map((what) => `MISSED  ${what}`),
    ...(failed === null ? [] : failure(failed)),
    ...(report.shown ?? []),
  ]
}

function failure({ seed, episode, why, operations }: NonNullable<FuzzReport['failed']>): string[] {
  return [`FAILED  in episode ${episode}: ${why}`, `Again:  --seed ${seed} --episode ${episode}`, ...operations]
}
