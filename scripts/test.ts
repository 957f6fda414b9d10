// `npm test`: the unit tests, the tests on a real vhost-net (here, or in the lab), and the lab's own tests.
// The last line is "N passed, N failed, N skipped".

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from './lab/child.ts'
import { missingHere } from './lab/here.ts'
import { cacheDirectory, projectRoot } from './lab/project.ts'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

interface Stage {
  readonly name: string
  readonly folder: 'unit' | 'kernel' | 'lab'
  /** Seconds for one test. */
  readonly testTimeout: number
  readonly inLab: boolean
}

const { values: options } = parseArgs({
  options: {
    unit: { type: 'boolean', default: false },
    'kernel-tests': { type: 'boolean', default: false },
    'lab-tests': { type: 'boolean', default: false },
    grep: { type: 'string' },
    kernel: { type: 'string', default: '6.1' },
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
    ...['--timeout', String(stage.testTimeout * 1000)],
    ...required.flatMap((name) => ['--require', path.join(hooks, name)]),
    ...(options.grep === undefined ? [] : ['--grep', options.grep]),
    `dist/test/${stage.folder}/**/*.test.js`,
  ]
}

const labCommand = (countsFile: string, command: readonly string[]): string[] => [
  process.execPath,
  path.join(projectRoot, 'dist/scripts/lab/main.js'),
  ...['--kernel', options.kernel, '--out', outDirectory, '--env', `MOCHA_COUNTS=${countsFile}`, '--', ...command],
]

const runStage = async (stage: Stage): Promise<Counts> => {
  const countsFile = path.join(outDirectory, `counts-${stage.folder}.json`)
  await mkdir(outDirectory, { recursive: true })
  await rm(countsFile, { force: true })
  say(stage.name)
  const command = mochaCommand(stage)
  const environment = { ...process.env, MOCHA_COUNTS: countsFile }
  const status = await runChild(stage.inLab ? labCommand(countsFile, command) : command, environment)
  const counts: Counts = existsSync(countsFile)
    ? (JSON.parse(readFileSync(countsFile, 'utf8')) as Counts)
    : { passed: 0, failed: 0, skipped: 0 }
  // A stage that ends badly after its last test, or before its first one, has failed as well.
  const broken = counts.failed === 0 && (status !== 0 || !existsSync(countsFile))
  if (broken) say(`${stage.name}: ended with exit code ${status}, which counts as one failure`)
  return broken ? { ...counts, failed: 1 } : counts
}

const missing = missingHere()
const inLab = missing.length > 0
const where = inLab ? `in the lab, since this machine lacks ${missing.join(' and ')}` : 'on this machine'

const stages: Record<'unit' | 'kernel-tests' | 'lab-tests', Stage> = {
  unit: { name: 'unit tests, on this machine', folder: 'unit', testTimeout: 10, inLab: false },
  'kernel-tests': { name: `kernel tests, ${where}`, folder: 'kernel', testTimeout: 60, inLab },
  'lab-tests': { name: 'tests of the lab, on this machine', folder: 'lab', testTimeout: 300, inLab: false },
}

const names = Object.keys(stages) as (keyof typeof stages)[]
const chosen = names.filter((name) => options[name])

let total: Counts = { passed: 0, failed: 0, skipped: 0 }
let skippedInLab = 0
for (const name of chosen.length > 0 ? chosen : names) {
  const stage = stages[name]
  const { passed, failed, skipped } = await runStage(stage)
  // The lab has everything that a test can ask for: a skip in it hides something.
  if (stage.inLab) skippedInLab += skipped
  total = { passed: total.passed + passed, failed: total.failed + failed, skipped: total.skipped + skipped }
}

if (skippedInLab > 0) say(`${skippedInLab} skipped in the lab, where nothing may be: this is a failure`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = total.failed > 0 || skippedInLab > 0 ? 1 : 0
