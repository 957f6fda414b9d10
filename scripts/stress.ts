// `npm run stress`: whether an interrupt is lost when a guest masks and rewrites its vectors, here if possible, else in the lab.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from './lab/child.ts'
import { exitCodes, LabError } from './lab/failure.ts'
import { missingHere } from './lab/here.ts'
import { defaultKernel, isKernelName, kernelNames } from './lab/kernels.ts'
import { projectRoot } from './lab/project.ts'

const usage = `Usage: npm run stress -- [options]

A network device over PCI on vhost-net, with 4 queue pairs in traffic both ways and a guest that counts its interrupts.
Meanwhile vectors are masked and unmasked (flips), and given other messages (rewrites). An interrupt that the driver is
owed and that does not come within 1 s of unmasking is lost.

Options:
  --flips N        (default 1000000)
  --rewrites N     of the flips, those that leave another message behind (default 100000)
  --kernel NAME    the lab's kernel, ${kernelNames.join(', ')}; without it, this machine if it has what is needed
  --json           the result on stdout as one JSON document
  --help           this text

Exit code: 0 if no interrupt is lost, none comes of a masked vector, and none by a message that was replaced; else 1, or
the lab's own, as \`npm run lab -- --help\` has them.
`

/** Of the lab; silence ends it much earlier. */
const DAY_S = 86_400

const { values: options } = parseArgs({
  options: {
    flips: { type: 'string', default: '1000000' },
    rewrites: { type: 'string', default: '100000' },
    kernel: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const numberOf = (option: 'flips' | 'rewrites', least: number, most: number): string => {
  const value = Number(options[option])
  if (Number.isInteger(value) && value >= least && value <= most) return String(value)
  throw new LabError(exitCodes.usage, `--${option} must be ${least}..${most}, not ${options[option]}`)
}

const main = async (): Promise<number> => {
  const flips = numberOf('flips', 1, 1e9)
  const rewrites = numberOf('rewrites', 0, Number(flips))
  const kernel = options.kernel ?? defaultKernel
  if (!isKernelName(kernel)) throw new LabError(exitCodes.usage, `--kernel must be one of ${kernelNames.join(', ')}`)
  const missing = existsSync('/dev/kvm') ? missingHere() : [...missingHere(), '/dev/kvm']
  const here = options.kernel === undefined && missing.length === 0
  const why = options.kernel === undefined ? `, since this machine lacks ${missing.join(' and ')}` : ''
  const place = here ? 'on this machine' : `in the lab on ${kernel}${why}`
  process.stderr.write(`stress: ${place}\n`)
  const inside = path.join(projectRoot, 'dist/scripts/stress/inside.js')
  const command = [process.execPath, inside, flips, rewrites, options.json ? 'json' : 'table']
  // With several CPUs, QEMU delivers some of a nested guest's interrupts twice; see scripts/lab/qemu.ts.
  const machine = ['--kernel', kernel, '--guests', '--timeout', String(DAY_S)]
  const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), ...machine, '--']
  return runChild(here ? command : [...lab, ...command], process.env)
}

try {
  if (options.help) process.stdout.write(usage)
  else process.exitCode = await main()
} catch (error) {
  if (!(error instanceof LabError)) throw error
  process.stderr.write(`stress: ${error.message}\n`)
  process.exitCode = error.exitCode
}
