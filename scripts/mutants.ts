// `npm run mutants`: plants the faults of test/mutants, each in a tree of its own, and sees that the named test fails.
// The last line is "N caught, N survived".

import { mkdirSync, rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Fault } from '../test/mutants/fault.ts'
import { FAULTS } from '../test/mutants/index.ts'
import { removeLeftovers, temporaryDirectory } from './lab/leftovers.ts'
import { lineNumberOf } from './mutants/plant.ts'
import { Session } from './mutants/session.ts'
import { type Judged, placeOf, table } from './mutants/table.ts'

const usage = `Usage: npm run mutants -- [options]

Plants each fault of test/mutants in a copy of the package, and runs the test that is to notice it: unit tests on this
machine, kernel tests in the lab. Each such test must pass without the fault, and fail with it.

Options:
  --grep TEXT   only the faults whose name, file or test has TEXT in it: 'unit/' needs no lab
  --list        what there is, and runs nothing
  --check       whether each can still be planted and its test is still there, and runs nothing
  --json        the result on stdout as one JSON document
  --help        this text

Exit code: 0 every fault was caught, 1 one survived, could not be planted, or is no longer in its file. With --check: 1
where the list is out of date.
`

const { values: options } = parseArgs({
  options: {
    grep: { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const ownDirectory = temporaryDirectory('mutants', process.pid)

const show = (judged: readonly Judged[]): void => {
  const caught = judged.filter(({ verdict }) => verdict.caught).length
  const left = judged.length - caught
  const lines = options.json
    ? [
        JSON.stringify(
          {
            caught,
            survived: left,
            faults: judged.map(({ fault, lineNumber, verdict }) => ({ ...fault, lineNumber, ...verdict })),
          },
          null,
          2,
        ),
      ]
    : [...table(process.stdout, judged), '', `${caught} caught, ${left} survived`]
  process.stdout.write(`${lines.join('\n')}\n`)
  if (left > 0) process.exitCode = 1
}

const showStale = (stale: readonly Judged[], all: number): void => {
  for (const { fault, verdict } of stale) process.stdout.write(`${fault.file}: ${fault.name}: ${verdict.why}\n`)
  process.stdout.write(`${all} faults, ${stale.length} out of date\n`)
  if (stale.length > 0) process.exitCode = 1
}

const list = (faults: readonly Fault[]): void => {
  for (const fault of faults) {
    process.stdout.write(`${fault.name}\n    ${placeOf({ fault, lineNumber: lineNumberOf(fault) })}\n`)
    process.stdout.write(`    ${fault.test}: ${fault.title}\n`)
  }
  process.stdout.write(`${faults.length} faults\n`)
}

const main = async (): Promise<void> => {
  const faults = FAULTS.filter(({ name, file, test }) => `${name}\n${file}\n${test}`.includes(options.grep))
  if (options.list) return list(faults)
  if (faults.length === 0) {
    process.stderr.write(`mutants: no fault has '${options.grep}' in its name, file or test\n`)
    process.exitCode = 1
    return
  }
  const interrupted = new AbortController()
  let received: NodeJS.Signals | undefined
  const signals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const
  const interrupt = (signal: NodeJS.Signals): void => {
    received = signal
    interrupted.abort()
  }
  for (const signal of signals) process.on(signal, interrupt)
  removeLeftovers('mutants')
  mkdirSync(ownDirectory, { recursive: true })
  try {
    const session = new Session(ownDirectory, faults, interrupted.signal)
    if (options.check) showStale(await session.check(), faults.length)
    else show(await session.run())
  } catch (error) {
    if (received === undefined) throw error
  } finally {
    // A compiler that was just told to end may still write.
    rmSync(ownDirectory, { recursive: true, force: true, maxRetries: 5 })
    for (const signal of signals) process.off(signal, interrupt)
  }
  if (received !== undefined) process.kill(process.pid, received)
}

if (options.help) process.stdout.write(usage)
else await main()
