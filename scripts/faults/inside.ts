// Where `npm run faults` runs. Argument: how the result is told, table or json.

import { RawNic } from '../../test/support/raw-nic.ts'
import { RING_CASES } from '../../test/support/ring-faults.ts'
import { outcomeOf, worksAgain } from '../../test/support/ring-outcome.ts'
import { type FaultRow, faultEnd, faultHead, faultLine, isInOrder } from './table.ts'

const json = process.argv[2] === 'json'
const rows: FaultRow[] = []
// With --json one document is all that stdout has.
const tell = (text: string): void => void (json ? process.stderr : process.stdout).write(`${text}\n`)

const again = async (raw: RawNic): Promise<string> => {
  try {
    await worksAgain(raw)
    return 'works'
  } catch (error) {
    return (error as Error).message
  }
}

for (const text of faultHead()) tell(text)
for (const transport of ['mmio', 'pci'] as const) {
  using raw = await RawNic.open('faults0', transport)
  for (const ringCase of RING_CASES) {
    const { name, ring, outcome: expected } = ringCase
    const { outcome, cpuMs } = await outcomeOf(raw, ringCase)
    const row = { transport, name, ring, expected, outcome, cpuMs, again: await again(raw) }
    rows.push(row)
    tell(faultLine(row))
  }
}
tell(faultEnd(rows))
if (json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`)
if (!rows.every(isInOrder)) process.exitCode = 1
