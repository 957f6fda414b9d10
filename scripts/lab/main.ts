// `npm run lab`: runs a command where the kernel has vhost-net.

import path from 'node:path'
import { exitCodes, LabError, signalExitCodes } from './failure.ts'
import { runHere } from './here.ts'
import type { Job } from './initramfs.ts'
import { type Kernel, provideKernel } from './kernels.ts'
import { alone, takeSlot } from './lock.ts'
import { type LabOptions, parseOptions, usage } from './options.ts'
import { cacheDirectory } from './project.ts'
import { say } from './report.ts'
import { type Limits, run } from './run.ts'

const systemPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** The console of the machine that ran last in this place. */
const consoleFile = (slot: number): string => path.join(cacheDirectory, `console-${slot}.log`)

/** With this Node.js first, wherever it is installed. */
const searchPath = (): string => {
  const own = path.dirname(process.execPath)
  return (systemPath.includes(own) ? systemPath : [own, ...systemPath]).join(':')
}

const jobFor = (options: LabOptions, kernel: Kernel): Job => ({
  command: options.shell ? ['/bin/bash', '-l'] : options.command,
  environment: {
    PATH: searchPath(),
    HOME: '/root',
    TERM: process.env.TERM ?? 'dumb',
    LAB: '1',
    LAB_KERNEL: kernel.release,
    LAB_OUT: options.outDirectory,
    ...options.environment,
  },
  outDirectory: options.outDirectory,
  terminal: options.shell ? { rows: process.stdout.rows ?? 24, columns: process.stdout.columns ?? 80 } : undefined,
})

const runInLab = async (options: LabOptions): Promise<number> => {
  if (process.arch !== 'x64') {
    throw new LabError(
      exitCodes.notReady,
      `the lab runs this machine's programs on an x86-64 kernel, not ${process.arch}`,
    )
  }
  const slot = await takeSlot()
  const kernel = await alone('kernels', () => provideKernel(options.kernel))
  const { cpus, memory, append, guests, nics, icount, outDirectory, shell } = options
  const limits: Limits = shell
    ? { total: Number.POSITIVE_INFINITY, quiet: Number.POSITIVE_INFINITY }
    : { total: options.timeout, quiet: options.quietTimeout }
  const machine = { kernel, cpus, memory, append, guests, nics, icount, outDirectory, terminal: shell }
  return run(machine, jobFor(options, kernel), consoleFile(slot), limits)
}

const main = async (args: readonly string[]): Promise<number> => {
  const options = parseOptions(args)
  if (options === undefined) {
    process.stdout.write(usage)
    return 0
  }
  const { command, environment, outDirectory } = options
  const status = options.here ? await runHere(command, environment, outDirectory) : await runInLab(options)
  const own: readonly number[] = [...Object.values(exitCodes), ...Object.values(signalExitCodes)]
  if (own.includes(status)) say(`the command exited with ${status}`)
  return status
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof LabError)) throw error
  say(error.message)
  process.exitCode = error.exitCode
}
