// `npm test`: the unit tests, the package installed, the tests on a real vhost-net (here, or in the lab), and the lab's own.
// The last line is "N passed, N failed, N skipped".

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from './lab/child.ts'
import { missingHere } from './lab/here.ts'
import { defaultKernel, isKernelName, type KernelName, kernelNames } from './lab/kernels.ts'
import { cacheDirectory, projectRoot } from './lab/project.ts'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

interface Stage {
  /** The option that chooses it, together with others. */
  readonly option: 'unit' | 'package-tests' | 'kernel-tests' | 'lab-tests'
  readonly name: string
  /** Patterns below dist/test. */
  readonly files: readonly string[]
  /** Seconds for one test. */
  readonly testTimeout: number
  /** In the lab, on this kernel; on this machine if there is none. */
  readonly kernel?: KernelName
}

const { values: options } = parseArgs({
  options: {
    unit: { type: 'boolean', default: false },
    'package-tests': { type: 'boolean', default: false },
    'kernel-tests': { type: 'boolean', default: false },
    'lab-tests': { type: 'boolean', default: false },
    grep: { type: 'string' },
    kernel: { type: 'string' },
    // NAME=VALUE for the tests, wherever they run.
    env: { type: 'string', multiple: true, default: [] },
  },
})

const say = (message: string): void => {
  process.stdout.write(`test: ${message}\n`)
}

const kernelNamed = (name: string): KernelName => {
  if (isKernelName(name)) return name
  throw new Error(`--kernel must be one of ${kernelNames.join(', ')}, not ${name}`)
}

const outDirectory = path.join(cacheDirectory, 'out')

const mochaCommand = (stage: Stage): string[] => {
  const hooks = path.join(projectRoot, 'dist/test/support/hooks')
  const required = existsSync(hooks) ? readdirSync(hooks).filter((name) => name.endsWith('.js')) : []
  return [
    process.execPath,
    path.join(projectRoot, 'node_modules/mocha/bin/mocha.js'),
    ...['--reporter', path.join(projectRoot, 'dist/test/support/reporter.js')],
    ...['--timeout', String(stage.testTimeout * 1000)],
    ...required.flatMap((name) => ['--require', path.join(hooks, name)]),
    ...(options.grep === undefined ? [] : ['--grep', options.grep]),
    ...stage.files.map((file) => `dist/test/${file}`),
  ]
}

const labCommand = (kernel: string, variables: readonly string[], command: readonly string[]): string[] => [
  process.execPath,
  path.join(projectRoot, 'dist/scripts/lab/main.js'),
  ...['--kernel', kernel, '--out', outDirectory],
  ...variables.flatMap((assignment) => ['--env', assignment]),
  ...['--', ...command],
]

const runStage = async (stage: Stage): Promise<Counts> => {
  const countsFile = path.join(outDirectory, 'counts.json')
  await mkdir(outDirectory, { recursive: true })
  await rm(countsFile, { force: true })
  say(stage.name)
  const command = mochaCommand(stage)
  const variables = [`MOCHA_COUNTS=${countsFile}`, ...options.env]
  const { kernel } = stage
  // The variables are the tests' own: they may be such as would end QEMU.
  const status = await runChild(
    kernel === undefined ? ['env', ...variables, ...command] : labCommand(kernel, variables, command),
    process.env,
  )
  const counts: Counts = existsSync(countsFile)
    ? (JSON.parse(readFileSync(countsFile, 'utf8')) as Counts)
    : { passed: 0, failed: 0, skipped: 0 }
  // A stage that ends badly after its last test, or before its first one, has failed as well.
  const broken = counts.failed === 0 && (status !== 0 || !existsSync(countsFile))
  if (broken) say(`${stage.name}: ended with exit code ${status}, which counts as one failure`)
  return broken ? { ...counts, failed: 1 } : counts
}

const missing = missingHere()

/** In full: on the kernel asked for, else on this machine's own where it can, else on the lab's default. */
const inFull = ((): Stage => {
  const stage = { option: 'kernel-tests', files: ['kernel/**/*.test.js'], testTimeout: 60 } as const
  if (options.kernel === undefined && missing.length === 0) return { ...stage, name: 'kernel tests, on this machine' }
  const kernel = kernelNamed(options.kernel ?? defaultKernel)
  const reason = options.kernel === undefined ? `, since this machine lacks ${missing.join(' and ')}` : ''
  return { ...stage, kernel, name: `kernel tests, all of them, in the lab on ${kernel}${reason}` }
})()

// What other kernels do differently. vhost-ioctls, tun-ioctls, memory: which ioctls and features there are, and how each
// refuses. bad-input: what the worker makes of a bad ring. lifetime: before 6.4 the worker is a kernel thread, since then a
// thread of this process. Frames pass in memory and readme; the other files vary what this package does with them, not
// the kernel, and would take longer than all these: `--kernel` runs everything on another one.
const everywhere = ['vhost-ioctls', 'tun-ioctls', 'memory', 'bad-input', 'readme']
const differing: Readonly<Record<KernelName, readonly string[]>> = {
  '6.1': [...everywhere, 'lifetime'],
  '6.12': everywhere,
  '7.3': everywhere,
}

const inPart = (kernel: KernelName): Stage => ({
  option: 'kernel-tests',
  name: `kernel tests, those that the kernel's version can change, in the lab on ${kernel}`,
  files: differing[kernel].map((name) => `kernel/${name}.test.js`),
  testTimeout: 60,
  kernel,
})

const stages: readonly Stage[] = [
  { option: 'unit', name: 'unit tests', files: ['unit/**/*.test.js'], testTimeout: 10 },
  { option: 'package-tests', name: 'tests of the package', files: ['package/**/*.test.js'], testTimeout: 10 },
  inFull,
  ...(options.kernel === undefined ? kernelNames.filter((name) => name !== inFull.kernel).map(inPart) : []),
  { option: 'lab-tests', name: 'tests of the lab', files: ['lab/**/*.test.js'], testTimeout: 300 },
]

const all = stages.every(({ option }) => !options[option])

let total: Counts = { passed: 0, failed: 0, skipped: 0 }
let skippedInLab = 0
for (const stage of stages.filter(({ option }) => all || options[option])) {
  const { passed, failed, skipped } = await runStage(stage)
  // The lab has everything that a test can ask for: a skip in it hides something.
  if (stage.kernel !== undefined) skippedInLab += skipped
  total = { passed: total.passed + passed, failed: total.failed + failed, skipped: total.skipped + skipped }
}

if (skippedInLab > 0) say(`${skippedInLab} skipped in the lab, where nothing may be: this is a failure`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = total.failed > 0 || skippedInLab > 0 ? 1 : 0
