// `npm run bench -- driver`: builds the programs in C, measures in the lab, judges, and shows the result.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import type { DriverBench } from '../../test/bench/driver/main.ts'
import { runChild } from '../lab/child.ts'
import { exitCodes, LabError } from '../lab/failure.ts'
import { cacheDirectory, projectRoot } from '../lab/project.ts'
import { judge, summarize } from './driver-figures.ts'
import { plotDriver } from './driver-plot.ts'
import { tableOfDriver } from './driver-table.ts'

const options = {
  baseline: { type: 'string', default: path.join(projectRoot, '../shared/bench/vnet.c') },
  rounds: { type: 'string', default: '5' },
  cycles: { type: 'string', default: '10000' },
  kernel: { type: 'string', default: '6.12' },
  only: { type: 'string', default: '' },
  out: { type: 'string', default: path.join(cacheDirectory, 'bench') },
  json: { type: 'boolean', default: false },
} as const

function compile(source: string, program: string): void {
  if (!existsSync(source))
    throw new LabError(exitCodes.usage, `there is no ${source}: name the program with --baseline`)
  const { status, stderr, error } = spawnSync('cc', ['-O2', '-Wall', '-o', program, source, '-lpthread'], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new LabError(exitCodes.notReady, `cannot compile ${source}: ${error?.message ?? stderr}`)
}

/** Runs the measurement in the lab; what it writes there appears in `out`. */
async function measureInLab(
  out: string,
  { rounds, cycles, kernel, only }: Record<string, string>,
): Promise<DriverBench> {
  const [baseline, injector, result] = ['baseline', 'inject', 'raw.json'].map((name) => path.join(out, name)) as [
    string,
    string,
    string,
  ]
  const program = path.join(projectRoot, 'dist/test/bench/driver/main.js')
  const command = [
    process.execPath,
    '--expose-gc',
    program,
    baseline,
    injector,
    rounds,
    cycles,
    only,
    result,
  ] as string[]
  const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), '--icount', '--kernel', kernel]
  const limits = ['--timeout', '5400', '--quiet-timeout', '600']
  // Debian's kernels clear each page they hand out, byte by byte where instructions are counted: 500 a packet of 64 bytes,
  // or none, as packets happen to be freed before or after vhost's page of fragments is used up.
  const append = ['--append', 'init_on_alloc=0']
  await rm(result, { force: true })
  const status = await runChild(
    [...(lab as string[]), ...append, ...limits, '--out', out, '--', ...command],
    process.env,
  )
  if (status !== 0) throw new LabError(status, `the measurement ended with ${status}`)
  return JSON.parse(readFileSync(result, 'utf8')) as DriverBench
}

export async function benchDriver(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options })
  const out = path.resolve(values.out)
  await mkdir(out, { recursive: true })
  compile(values.baseline, path.join(out, 'baseline'))
  compile(path.join(projectRoot, 'test/bench/driver/inject.c'), path.join(out, 'inject'))
  const measured = await measureInLab(out, values as unknown as Record<string, string>)

  const figures = summarize(measured.rows)
  const verdicts = judge(figures, measured.pairs)
  const result = { ...measured, figures, verdicts }
  await writeFile(path.join(out, 'driver.json'), `${JSON.stringify(result, undefined, 2)}\n`)
  await writeFile(path.join(out, 'driver.svg'), plotDriver(measured, figures))
  await rm(path.join(out, 'raw.json'))
  process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : tableOfDriver(measured, figures, verdicts))
  process.stderr.write(`bench: also in ${path.join(out, 'driver.json')} and driver.svg\n`)
  return verdicts.every(({ reached }) => reached) ? 0 : 1
}
