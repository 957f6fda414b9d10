// `npm run bench`: what things cost, measured in the lab.

import { LabError } from '../lab/failure.ts'
import { benchDriver } from './driver.ts'

const usage = `Usage: npm run bench -- driver [options]

Instructions of the whole machine for each packet: of the driver in this package, of a program in C, of Node's fs on a
tap; system calls of queue pairs; memory that opening and closing them leaves. In the lab, by counting instructions: the
same on every host, whatever else runs on it.

Options:
  --baseline FILE   the program in C (default ../shared/bench/vnet.c)
  --rounds N        samples of each path (default 5)
  --cycles N        times a queue pair is opened and closed (default 10000)
  --kernel NAME     the kernel to boot (default 6.12)
  --only TEXT       only paths that have it in their names, and C: 'tx 64', 'bursts'
  --out DIR         where driver.json and driver.svg go (default .lab/bench)
  --json            the result as JSON on stdout, instead of the table

Exit code: 0 if every figure that must be reached is, else 1.
`

const [what, ...args] = process.argv.slice(2)
try {
  if (what === 'driver') process.exitCode = await benchDriver(args)
  else {
    process.stdout.write(usage)
    process.exitCode = what === '--help' ? 0 : 2
  }
} catch (error) {
  if (!(error instanceof LabError)) throw error
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = error.exitCode
}
