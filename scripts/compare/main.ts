// `npm run compare`: the features of a NIC of ours beside those of QEMU's, measured here if possible, else in the lab.

import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from '../lab/child.ts'
import { exitCodes, LabError } from '../lab/failure.ts'
import { missingHere } from '../lab/here.ts'
import { defaultKernel, isKernelName, type KernelName, kernelNames, provideKernel } from '../lab/kernels.ts'
import { alone } from '../lab/lock.ts'
import { cacheDirectory, projectRoot } from '../lab/project.ts'
import { compare } from './compare.ts'
import type { Measurement } from './measure.ts'
import { compareTable, isInOrder } from './table.ts'

const usage = `Usage: npm run compare -- [options]

Boots a stock Linux guest on this package's machine and on QEMU's with vhost=on, each with NICs that are given the same
options, and compares: which feature bits they offer, read from their registers, and which ones the guest accepts. Every
difference is listed with its reason. The reasons are in scripts/compare/reasons.ts, the options in option-sets.ts.

Options:
  --all            the bits that agree, too
  --kernel NAME    the lab's kernel, ${kernelNames.join(', ')}; without it, this machine if it has what is needed
  --guest NAME     the guest's kernel (default ${defaultKernel})
  --json           the result on stdout as one JSON document
  --help           this text

Exit code: 0 if every difference has a reason, every reason its difference, and guests and devices agree; else 1, or
the lab's own, as \`npm run lab -- --help\` has them.
`

const { values: options } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    kernel: { type: 'string' },
    guest: { type: 'string', default: defaultKernel as string },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const kernelOf = (option: string, name: string): KernelName => {
  if (isKernelName(name)) return name
  throw new LabError(exitCodes.usage, `--${option} must be one of ${kernelNames.join(', ')}`)
}

const measure = async (): Promise<Measurement> => {
  const guest = kernelOf('guest', options.guest)
  const missing = existsSync('/dev/kvm') ? missingHere() : [...missingHere(), '/dev/kvm']
  const here = options.kernel === undefined && missing.length === 0
  const host = kernelOf('kernel', options.kernel ?? defaultKernel)
  const why = options.kernel === undefined ? `, since this machine lacks ${missing.join(' and ')}` : ''
  process.stderr.write(`compare: ${here ? 'on this machine' : `in the lab on ${host}${why}`}\n`)
  // Inside the lab nothing can be fetched.
  await alone('kernels', () => provideKernel(guest))
  const out = path.join(cacheDirectory, 'compare')
  const result = path.join(out, 'measurement.json')
  await mkdir(out, { recursive: true })
  await rm(result, { force: true })
  const command = [process.execPath, path.join(projectRoot, 'dist/scripts/compare/inside.js'), guest, result]
  // With several CPUs, QEMU delivers some of a nested guest's interrupts twice; see scripts/lab/qemu.ts.
  const lab = [path.join(projectRoot, 'dist/scripts/lab/main.js'), '--kernel', host, '--guests', '--out', out, '--']
  const status = await runChild(here ? command : [process.execPath, ...lab, ...command], process.env)
  if (status !== 0) throw new LabError(status, `the measurement ended with ${status}`)
  return JSON.parse(readFileSync(result, 'utf8')) as Measurement
}

const main = async (): Promise<void> => {
  const comparison = compare(await measure())
  const text = options.json
    ? JSON.stringify(comparison, undefined, 2)
    : compareTable(comparison, options.all).join('\n')
  process.stdout.write(`${text}\n`)
  if (!isInOrder(comparison)) process.exitCode = 1
}

try {
  if (options.help) process.stdout.write(usage)
  else await main()
} catch (error) {
  if (!(error instanceof LabError)) throw error
  process.stderr.write(`compare: ${error.message}\n`)
  process.exitCode = error.exitCode
}
