// `npm start`: a stock guest whose vCPUs own their queue pairs, on this machine if it can, else in the lab.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { UsageError } from '../lib/cli/command.ts'
import { runChild } from './lab/child.ts'
import { LabError } from './lab/failure.ts'
import { missingHere } from './lab/here.ts'
import { provideKernel } from './lab/kernels.ts'
import { alone } from './lab/lock.ts'
import { projectRoot } from './lab/project.ts'
import { parseOptions, type StartOptions, usage } from './start/options.ts'

/** Of the lab, beyond what iperf3 was asked for; on a busy host booting takes its time, twice. */
const LIMIT_S = 1800

const say = (text: string): void => void process.stderr.write(`start: ${text}\n`)

const main = async ({ kernel, seconds }: StartOptions): Promise<number> => {
  const missing = existsSync('/dev/kvm') ? missingHere() : [...missingHere(), '/dev/kvm']
  const here = missing.length === 0
  // stdout is the result's alone: with --json it is one document.
  say(here ? 'on this machine' : `in the lab on ${kernel}, since this machine lacks ${missing.join(' and ')}`)
  // The lab has no way to Debian's archive.
  await alone('kernels', () => provideKernel(kernel))
  const inside = path.join(projectRoot, 'dist/scripts/start/inside.js')
  const command = [process.execPath, inside, ...process.argv.slice(2)]
  const machine = ['--kernel', kernel, '--guests', '--timeout', String(LIMIT_S + 2 * seconds)]
  const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), ...machine, '--']
  return runChild(here ? command : [...lab, ...command], process.env)
}

try {
  const options = parseOptions(process.argv.slice(2))
  if (options === undefined) process.stdout.write(usage)
  else process.exitCode = await main(options)
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`start: ${error.message}\n\n${error.usage}`)
    process.exitCode = 2
  } else if (error instanceof LabError) {
    say(error.message)
    process.exitCode = error.exitCode
  } else throw error
}
