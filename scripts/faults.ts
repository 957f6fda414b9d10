// `npm run faults`: what becomes of everything that a guest can write into a ring, here if possible, else in the lab.

import { parseArgs } from 'node:util'
import { kernelNames } from './lab/kernels.ts'
import { kernelNamed, runCommand, runHereOrInLab } from './lab/place.ts'

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

const main = async (): Promise<number> => {
  if (options.help) {
    process.stdout.write(usage)
    return 0
  }
  const args = [options.json ? 'json' : 'table']
  return runHereOrInLab({
    name: 'faults',
    program: 'faults/inside.js',
    args,
    kernel: kernelNamed('kernel', options.kernel),
  })
}

await runCommand('faults', main)
