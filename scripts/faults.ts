// `npm run faults`: what becomes of everything that a guest can write into a ring, here if possible, else in the lab.

import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from './lab/child.ts'
import { exitCodes, LabError } from './lab/failure.ts'
import { missingHere } from './lab/here.ts'
import { defaultKernel, isKernelName, kernelNames } from './lab/kernels.ts'
import { projectRoot } from './lab/project.ts'

const usage = `Usage: npm run faults -- [options]

A network device on the kernel's vhost-net, over MMIO and over PCI, whose guest writes into its rings what it should not: each
buffer comes back, or the device needs a reset and says why, before vhost's worker had 500 ms; after a reset frames pass again.

Options:
  --kernel NAME    the lab's kernel, ${kernelNames.join(', ')}; without it, this machine if it has what is needed
  --json           the result on stdout as one JSON document
  --help           this text

Exit code: 0 if all become what they are to be, else 1, or the lab's own, as \`npm run lab -- --help\` has them.
`

const { values: options } = parseArgs({
  options: {
    kernel: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const main = (): Promise<number> => {
  const kernel = options.kernel ?? defaultKernel
  if (!isKernelName(kernel)) throw new LabError(exitCodes.usage, `--kernel must be one of ${kernelNames.join(', ')}`)
  const missing = missingHere()
  const here = options.kernel === undefined && missing.length === 0
  const why = options.kernel === undefined ? `, since this machine lacks ${missing.join(' and ')}` : ''
  process.stderr.write(`faults: ${here ? 'on this machine' : `in the lab on ${kernel}${why}`}\n`)
  const inside = path.join(projectRoot, 'dist/scripts/faults/inside.js')
  const command = [process.execPath, inside, options.json ? 'json' : 'table']
  const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), '--kernel', kernel, '--']
  return runChild(here ? command : [...lab, ...command], process.env)
}

try {
  if (options.help) process.stdout.write(usage)
  else process.exitCode = await main()
} catch (error) {
  if (!(error instanceof LabError)) throw error
  process.stderr.write(`faults: ${error.message}\n`)
  process.exitCode = error.exitCode
}
