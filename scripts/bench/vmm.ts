// `npm run bench -- vmm`: builds the traffic, measures in the lab, judges, and shows the result.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from '../lab/child.ts'
import { exitCodes, LabError } from '../lab/failure.ts'
import { defaultKernel, isKernelName, type KernelName, kernelNames, provideKernel } from '../lab/kernels.ts'
import { alone } from '../lab/lock.ts'
import { cacheDirectory, projectRoot } from '../lab/project.ts'
import { CONTENDERS, type Contender } from './vmm/contenders.ts'
import { summarize } from './vmm/figures.ts'
import { exitCodeOf, judge } from './vmm/goals.ts'
import type { Settings, VmmBench } from './vmm/inside.ts'
import { plotVmm } from './vmm/plot.ts'
import { tableOfVmm } from './vmm/table.ts'
import { MODES, type Mode } from './vmm/traffic.ts'

const options = {
  boots: { type: 'string', default: '10' },
  rounds: { type: 'string', default: '10' },
  only: { type: 'string', default: CONTENDERS.join() },
  traffic: { type: 'string', default: MODES.join() },
  smp: { type: 'string', default: '1' },
  memory: { type: 'string', default: '256' },
  seconds: { type: 'string', default: '2' },
  kernel: { type: 'string', default: defaultKernel as string },
  guest: { type: 'string', default: defaultKernel as string },
  image: { type: 'string', default: 'vmlinux' },
  out: { type: 'string', default: path.join(cacheDirectory, 'bench') },
  again: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} as const

const wrong = (option: string, problem: string): LabError => new LabError(exitCodes.usage, `--${option} ${problem}`)

function someOf<T extends string>(option: string, text: string, all: readonly T[]): T[] {
  return text.split(',').map((word) => {
    const found = all.find((each) => each === word)
    if (found === undefined) throw wrong(option, `must be of ${all.join(', ')}, not '${word}'`)
    return found
  })
}

function positive(option: string, text: string): number {
  const value = Number(text)
  if (value > 0 && Number.isFinite(value)) return value
  throw wrong(option, `must be a number above 0, not '${text}'`)
}

function kernel(option: string, name: string): KernelName {
  if (isKernelName(name)) return name
  throw wrong(option, `must be one of ${kernelNames.join(', ')}`)
}

function parse(args: readonly string[]) {
  const { values } = parseArgs({ args: [...args], options })
  const settings: Omit<Settings, 'traffic'> = {
    boots: positive('boots', values.boots),
    rounds: positive('rounds', values.rounds),
    contenders: someOf<Contender>('only', values.only, CONTENDERS),
    modes: someOf<Mode>('traffic', values.traffic, MODES),
    kernel: kernel('guest', values.guest),
    image: someOf('image', values.image, ['vmlinux', 'vmlinuz'] as const)[0]!,
    smp: positive('smp', values.smp),
    memory: positive('memory', values.memory),
    milliseconds: positive('seconds', values.seconds) * 1000,
  }
  const { out, again, json } = values
  return { settings, host: kernel('kernel', values.kernel), out: path.resolve(out), again, json }
}

/** Without shared libraries: it is the guest's program, too. */
function compileTraffic(program: string): void {
  const source = path.join(projectRoot, 'test/bench/vmm/traffic.c')
  const { status, stderr, error } = spawnSync(
    'cc',
    ['-O2', '-Wall', '-Wextra', '-static', '-pthread', '-o', program, source],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new LabError(exitCodes.notReady, `cannot compile ${source}: ${error?.message ?? stderr}`)
}

/** On a host that is slow, for the time limit: of a boot, and of what begins and ends one traffic. */
const BOOT_SECONDS = 180
const TRAFFIC_SECONDS = 3

function secondsOf({ boots, rounds, contenders, modes, milliseconds }: Omit<Settings, 'traffic'>): number {
  const traffic = rounds * modes.length * 2 * (milliseconds / 1000 + TRAFFIC_SECONDS)
  return Math.ceil(contenders.length * ((boots + 2) * BOOT_SECONDS + traffic))
}

/** MiB: all guests at once, and what runs them. */
const labMemory = ({ contenders, memory }: Omit<Settings, 'traffic'>): number => 2048 + contenders.length * memory

async function measureInLab(host: KernelName, out: string, settings: Omit<Settings, 'traffic'>): Promise<void> {
  const [traffic, file, result] = ['traffic', 'vmm-settings.json', 'vmm-raw.json'].map((name) =>
    path.join(out, name),
  ) as [string, string, string]
  compileTraffic(traffic)
  // Inside the lab nothing can be fetched.
  await alone('kernels', () => provideKernel(settings.kernel))
  await rm(result, { force: true })
  await writeFile(file, JSON.stringify({ ...settings, traffic } satisfies Settings))
  const inside = [process.execPath, path.join(projectRoot, 'dist/scripts/bench/vmm/inside.js'), file, result]
  const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), '--kernel', host, '--guests']
  const limits = ['--timeout', String(secondsOf(settings)), '--quiet-timeout', '600', '--out', out]
  const size = ['--memory', String(labMemory(settings))]
  const status = await runChild([...lab, ...size, ...limits, '--', ...inside], process.env)
  if (status !== 0) throw new LabError(status, `the measurement ended with ${status}; rounds that were: ${result}`)
}

export async function benchVmm(args: readonly string[]): Promise<number> {
  const { settings, host, out, again, json } = parse(args)
  await mkdir(out, { recursive: true })
  if (!again) await measureInLab(host, out, settings)
  const measured = JSON.parse(readFileSync(path.join(out, 'vmm-raw.json'), 'utf8')) as VmmBench
  const lines = summarize(measured)
  const verdicts = judge(measured, lines)
  await writeFile(path.join(out, 'vmm.json'), `${JSON.stringify({ ...measured, lines, verdicts }, undefined, 2)}\n`)
  await writeFile(path.join(out, 'vmm.svg'), plotVmm(measured, lines))
  process.stdout.write(
    json ? `${JSON.stringify({ ...measured, lines, verdicts })}\n` : tableOfVmm(measured, lines, verdicts),
  )
  process.stderr.write(`bench: also in ${path.join(out, 'vmm.json')} and vmm.svg\n`)
  return exitCodeOf(verdicts)
}
