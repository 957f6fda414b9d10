// `npm start`: a stock guest whose vCPUs own their queue pairs, on this machine if it can, else in the lab.

import { UsageError } from '../lib/cli/command.ts'
import { provideKernel } from './lab/kernels.ts'
import { alone } from './lab/lock.ts'
import { runCommand, runHereOrInLab } from './lab/place.ts'
import { parseOptions, type StartOptions, usage } from './start/options.ts'

/** Of the lab, beyond what iperf3 was asked for; on a busy host booting takes its time, twice. */
const LIMIT_S = 1800

const main = async ({ kernel, seconds }: StartOptions): Promise<number> => {
  // The lab has no way to Debian's archive.
  await alone('kernels', () => provideKernel(kernel))
  return runHereOrInLab({
    name: 'start',
    program: 'start/inside.js',
    args: process.argv.slice(2),
    otherwise: kernel,
    guests: true,
    lab: ['--timeout', String(LIMIT_S + 2 * seconds)],
  })
}

try {
  const options = parseOptions(process.argv.slice(2))
  if (options === undefined) process.stdout.write(usage)
  else await runCommand('start', () => main(options))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`start: ${error.message}\n\n${error.usage}`)
  process.exitCode = 2
}
