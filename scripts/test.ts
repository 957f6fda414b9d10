// `npm test`: the unit tests, the package installed, the tests on a real vhost-net (here, or in the lab), and the lab's own,
// as many of these side by side as there are CPUs. The last line is "N passed, N failed, N skipped".

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from './lab/child.ts'
import { missingHere } from './lab/here.ts'
import { defaultKernel, provideKernel } from './lab/kernels.ts'
import { alone } from './lab/lock.ts'
import { cacheDirectory, projectRoot } from './lab/project.ts'
import { coreStages, type Stage, stagesOf } from './test/stages.ts'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  /** Each that failed, and why. */
  readonly failures: readonly string[]
}

const { values: options } = parseArgs({
  options: {
    unit: { type: 'boolean', default: false },
    'package-tests': { type: 'boolean', default: false },
    'kernel-tests': { type: 'boolean', default: false },
    'network-tests': { type: 'boolean', default: false },
    'guest-tests': { type: 'boolean', default: false },
    'lab-tests': { type: 'boolean', default: false },
    // The unit tests and the core of the kernel tests.
    core: { type: 'boolean', default: false },
    grep: { type: 'string' },
    kernel: { type: 'string' },
    // NAME=VALUE for the tests, wherever they run.
    env: { type: 'string', multiple: true, default: [] },
  },
})

const say = (message: string): void => {
  process.stdout.write(`test: ${message}\n`)
}

const outDirectory = path.join(cacheDirectory, 'out')

const mochaCommand = (stage: Stage): string[] => {
  const hooks = path.join(projectRoot, 'dist/test/support/hooks')
  const required = existsSync(hooks) ? readdirSync(hooks).filter((name) => name.endsWith('.js')) : []
  return [
    process.execPath,
    path.join(projectRoot, 'node_modules/mocha/bin/mocha.js'),
    ...['--reporter', path.join(projectRoot, 'dist/test/support/reporter.js')],
    // Mocha goes by its own output, which is a pipe, and by CI, which says nothing of colours.
    process.stdout.isTTY ? '--color' : '--no-color',
    ...['--timeout', String(stage.testTimeout * 1000)],
    ...required.flatMap((name) => ['--require', path.join(hooks, name)]),
    ...(options.grep === undefined ? [] : ['--grep', options.grep]),
    ...stage.files.map((file) => `dist/test/${file}`),
  ]
}

const labCommand = (
  kernel: string,
  { testTimeout, guestKernels }: Stage,
  variables: readonly string[],
  command: readonly string[],
): string[] => [
  process.execPath,
  path.join(projectRoot, 'dist/scripts/lab/main.js'),
  // A test that hangs reaches its own limit first, and says so.
  ...['--kernel', kernel, '--out', outDirectory, '--timeout', '3600', '--quiet-timeout', String(testTimeout + 60)],
  ...(guestKernels === undefined ? [] : ['--guests']),
  ...variables.flatMap((assignment) => ['--env', assignment]),
  ...['--', ...command],
]

const runStage = async (stage: Stage, prefix: string | undefined): Promise<Counts> => {
  const { kernel, label, name } = stage
  const countsFile = path.join(outDirectory, `counts-${label}.json`)
  await rm(countsFile, { force: true })
  say(name)
  const start = performance.now()
  const command = mochaCommand(stage)
  const variables = [`MOCHA_COUNTS=${countsFile}`, ...options.env]
  // Inside the lab nothing can be fetched.
  for (const guest of stage.guestKernels ?? []) await alone('kernels', () => provideKernel(guest))
  await stage.prepare?.()
  // The variables are the tests' own: they may be such as would end QEMU.
  const status = await runChild(
    kernel === undefined ? ['env', ...variables, ...command] : labCommand(kernel, stage, variables, command),
    process.env,
    prefix,
  )
  const counts: Counts = existsSync(countsFile)
    ? (JSON.parse(readFileSync(countsFile, 'utf8')) as Counts)
    : { passed: 0, failed: 0, skipped: 0, failures: [] }
  // A stage that ends badly after its last test, or before its first one, has failed as well.
  const broken = counts.failed === 0 && (status !== 0 || !existsSync(countsFile))
  const result = broken ? { ...counts, failed: 1, failures: [`ended with exit code ${status}`] } : counts
  say(
    `${name}: ${result.passed} passed, ${result.failed} failed in ${Math.round((performance.now() - start) / 1000)} s`,
  )
  return result
}

const all = options.core ? coreStages(defaultKernel) : stagesOf(options.kernel, missingHere())
const chosen = all.some(({ option }) => options[option]) ? all.filter(({ option }) => options[option]) : all
const width = Math.min(availableParallelism(), chosen.length)
const longest = Math.max(...chosen.map(({ label }) => label.length))
await mkdir(outDirectory, { recursive: true })

let total = { passed: 0, failed: 0, skipped: 0 }
const failures: string[] = []
let skippedInLab = 0
const left = [...chosen]
const runSome = async (): Promise<void> => {
  for (let stage = left.shift(); stage !== undefined; stage = left.shift()) {
    const prefix = width > 1 ? `${stage.label.padEnd(longest)} │ ` : undefined
    const { passed, failed, skipped, failures: whys } = await runStage(stage, prefix)
    failures.push(...whys.map((why) => `${stage.name}: ${why}`))
    // The lab has everything that a test can ask for: a skip in it hides something.
    if (stage.kernel !== undefined) skippedInLab += skipped
    total = { passed: total.passed + passed, failed: total.failed + failed, skipped: total.skipped + skipped }
  }
}
await Promise.all(Array.from({ length: width }, runSome))

// Once more at the end, where they are seen however long the output was.
for (const failure of failures) say(`failed: ${failure}`)
if (skippedInLab > 0) say(`${skippedInLab} skipped in the lab, where nothing may be: this is a failure`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = total.failed > 0 || skippedInLab > 0 ? 1 : 0
