// `npm run fuzz`: guests drawn by chance against the device on the kernel's vhost-net, here if possible, else in the lab.

import { parseArgs } from 'node:util'
import { PLANTS, type PlantName } from '../test/support/fuzz/plants.ts'
import type { Job } from './fuzz/job.ts'
import { exitCodes, LabError } from './lab/failure.ts'
import { kernelNames } from './lab/kernels.ts'
import { kernelNamed, numberNamed, runCommand, runHereOrInLab } from './lab/place.ts'

const usage = `Usage: npm run fuzz -- [options]

Guests that are nearly right: registers of virtio-mmio and virtio-pci, rings and control queue, against the network device
on the kernel's vhost-net. In each episode: what was kicked is used, or the device needs a reset, before the worker of its
pair ran for 1 s; only for what the guest did wrong, and with that as the cause; what must not be used is not; commands get
the answer that they must; after a reset a good guest's frames pass both ways; files, threads and memory stay bounded.

Options:
  --seconds N      how long (default 60)
  --seed S         what is drawn, by mulberry32 (default: by chance, and told)
  --episode E      only this one of a seed, with what the guest does in it
  --plant NAME     plants a bug, which is to be found: ${Object.keys(PLANTS).join(', ')}
  --kernel NAME    the lab's kernel, ${kernelNames.join(', ')}; without it, this machine if it has what is needed
  --json           the result on stdout as one JSON document
  --help           this text

Exit code: 0 if nothing failed and the run saw what it should (packets moved in 30 % of the episodes; from 100 episodes on,
each command answered both ways; from 1000 on, each cause that docs/reliability.md has and a guest can bring about), or if
the planted bug was found; else 1, or the lab's own, as \`npm run lab -- --help\` has them.
`

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    episode: { type: 'string' },
    plant: { type: 'string' },
    kernel: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

/** For the lab to boot, and for an episode that does not end. */
const SPARE_S = 300

function plantNamed(name: string): PlantName {
  if (Object.hasOwn(PLANTS, name)) return name as PlantName
  throw new LabError(exitCodes.usage, `--plant must be one of ${Object.keys(PLANTS).join(', ')}`)
}

const main = async (): Promise<number> => {
  if (options.help) {
    process.stdout.write(usage)
    return 0
  }
  const { episode, plant, json } = options
  const seconds = numberNamed('seconds', options.seconds, 1, 1e6)
  const job: Job = {
    seconds,
    seed: options.seed === undefined ? Date.now() % 2 ** 32 : numberNamed('seed', options.seed, 0, 2 ** 32 - 1),
    ...(episode === undefined ? {} : { episode: numberNamed('episode', episode, 0, 2 ** 32 - 1) }),
    ...(plant === undefined ? {} : { plant: plantNamed(plant) }),
    json,
  }
  process.stderr.write(`fuzz: seed ${job.seed}\n`)
  return runHereOrInLab({
    name: 'fuzz',
    program: 'fuzz/inside.js',
    args: [JSON.stringify(job)],
    kernel: kernelNamed('kernel', options.kernel),
    lab: ['--timeout', String(seconds + SPARE_S)],
  })
}

await runCommand('fuzz', main)
