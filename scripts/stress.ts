// `npm run stress`: whether an interrupt is lost when a guest masks and rewrites its vectors, here if possible, else in the lab.

import { parseArgs } from 'node:util'
import { kernelNames } from './lab/kernels.ts'
import { kernelNamed, numberNamed, runCommand, runHereOrInLab } from './lab/place.ts'

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

const main = async (): Promise<number> => {
  if (options.help) {
    process.stdout.write(usage)
    return 0
  }
  const flips = numberNamed('flips', options.flips, 1, 1e9)
  const rewrites = numberNamed('rewrites', options.rewrites, 0, flips)
  return runHereOrInLab({
    name: 'stress',
    program: 'stress/inside.js',
    args: [String(flips), String(rewrites), options.json ? 'json' : 'table'],
    kernel: kernelNamed('kernel', options.kernel),
    guests: true,
    lab: ['--timeout', String(DAY_S)],
  })
}

await runCommand('stress', main)
