// `npm run compare`: the features of a NIC of ours beside those of QEMU's, measured here if possible, else in the lab.

import { readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { LabError } from '../lab/failure.ts'
import { defaultKernel, kernelNames, provideKernel } from '../lab/kernels.ts'
import { alone } from '../lab/lock.ts'
import { kernelNamed, runCommand, runHereOrInLab } from '../lab/place.ts'
import { cacheDirectory } from '../lab/project.ts'
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

const measure = async (): Promise<Measurement> => {
  const guest = kernelNamed('guest', options.guest)
  const kernel = kernelNamed('kernel', options.kernel)
  // Inside the lab nothing can be fetched.
  await alone('kernels', () => provideKernel(guest))
  const out = path.join(cacheDirectory, 'compare')
  const result = path.join(out, 'measurement.json')
  await mkdir(out, { recursive: true })
  await rm(result, { force: true })
  const job = { name: 'compare', program: 'compare/inside.js', args: [guest, result], kernel, guests: true }
  const status = await runHereOrInLab({ ...job, lab: ['--out', out] })
  if (status !== 0) throw new LabError(status, `the measurement ended with ${status}`)
  return JSON.parse(readFileSync(result, 'utf8')) as Measurement
}

const main = async (): Promise<number> => {
  if (options.help) {
    process.stdout.write(usage)
    return 0
  }
  const comparison = compare(await measure())
  const text = options.json
    ? JSON.stringify(comparison, undefined, 2)
    : compareTable(comparison, options.all).join('\n')
  process.stdout.write(`${text}\n`)
  return isInOrder(comparison) ? 0 : 1
}

await runCommand('compare', main)
