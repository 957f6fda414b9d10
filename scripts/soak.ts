// `npm run soak`: whether any frame is lost, doubled or altered that nobody counted, here if possible, else in the lab.

import { parseArgs } from 'node:util'
import { kernelNames } from './lab/kernels.ts'
import { kernelNamed, numberNamed, runCommand, runHereOrInLab } from './lab/place.ts'

const usage = `Usage: npm run soak -- [options]

Two network devices on the kernel's vhost-net, each with a driver, on a bridge: every frame carries its number and is checked
word by word where it arrives. At each checkpoint the traffic comes to rest, and what the drivers sent, what both taps
counted, and what was received must be equal; open files and threads must be the same, and memory bounded. Before every
fourth checkpoint both send for a moment while nobody receives, so that taps drop frames, and count them.

Options:
  --packets N      frames to send, both ways together (default 10000000)
  --pairs N        queue pairs of each device (default 4)
  --kernel NAME    the lab's kernel, ${kernelNames.join(', ')}; without it, this machine if it has what is needed
  --json           the result on stdout as one JSON document
  --help           this text

Exit code: 0 if all sums are exact, 1 where one is not, or the lab's own, as \`npm run lab -- --help\` has them.
`

/** Of the lab; silence ends it much earlier. */
const DAY_S = 86_400

const { values: options } = parseArgs({
  options: {
    packets: { type: 'string', default: '10000000' },
    pairs: { type: 'string', default: '4' },
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
  const packets = numberNamed('packets', options.packets, 1000, 1e10)
  const pairs = numberNamed('pairs', options.pairs, 1, 64)
  return runHereOrInLab({
    name: 'soak',
    program: 'soak/inside.js',
    args: [String(packets), String(pairs), options.json ? 'json' : 'table'],
    kernel: kernelNamed('kernel', options.kernel),
    lab: ['--timeout', String(DAY_S)],
  })
}

await runCommand('soak', main)
