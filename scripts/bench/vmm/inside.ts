// What `npm run bench -- vmm` runs in the lab: all rounds, in one boot of it. `node inside.js SETTINGS RESULT`, JSON files.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import path from 'node:path'
import type { GuestKernelName } from '../../lab/kernels.ts'
import { type Contender, commandOf, orderOf, quote } from './contenders.ts'
import { makeGuest } from './guest.ts'
import { bareNode, type Pss } from './memory.ts'
import { type Measured, measureOne, type RoundOptions } from './round.ts'
import { mountTracing } from './tracefs.ts'
import type { Mode } from './traffic.ts'

export interface Settings {
  rounds: number
  contenders: readonly Contender[]
  modes: readonly Mode[]
  kernel: GuestKernelName
  image: 'vmlinux' | 'vmlinuz'
  smp: number
  memory: number
  rateMs: number
  countMs: number
  /** The program of traffic.c. */
  traffic: string
}

/** Of each contender once. */
export interface Round {
  measured: Partial<Record<Contender, Measured>>
  bareNode: Pss
}

/** JSON-safe. */
export interface VmmBench {
  /** What `uname -r` says in the lab. */
  host: string
  node: string
  qemu: string
  settings: Omit<Settings, 'traffic'>
  /** As they were typed. */
  commands: Partial<Record<Contender, string>>
  rounds: Round[]
  /** Boots that came to nothing, which `rounds` have a gap for. */
  failures: { round: number; contender: Contender; message: string }[]
}

const say = (line: string): void => {
  process.stderr.write(`bench: ${line}\n`)
}

function qemuVersion(): string {
  const { stdout, error } = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' })
  if (error !== undefined) throw error
  return /version (\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? 'unknown'
}

function tell(round: string, contender: Contender, { stages, rates }: Measured): void {
  const moved = Object.entries(rates).map(([mode, rate]) => `${mode} ${Math.round(rate)}`)
  say([`${round} ${contender}: first ping after ${Math.round(stages.answered)} ms`, ...moved].join(', '))
}

async function run({ traffic, ...settings }: Settings, result: string): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'bench-'))
  try {
    mountTracing()
    const { kernel, image, smp, memory, contenders, modes, rateMs, countMs } = settings
    const guest = await makeGuest({ kernel, image, traffic, smp, memory, ifname: 'bench0', directory })
    const options: RoundOptions = { guest, traffic, rateMs, countMs, modes }
    const bench: VmmBench = {
      host: release(),
      node: process.version,
      qemu: qemuVersion(),
      settings,
      commands: Object.fromEntries(contenders.map((each) => [each, quote(commandOf(each, guest))])),
      rounds: [],
      failures: [],
    }
    // The first one to read a program waits for the lab's share.
    for (const each of contenders) tell('warm-up', each, await measureOne(each, { ...options, modes: [] }))
    for (let i = 0; i < settings.rounds; i++) {
      const round: Round = { measured: {}, bareNode: await bareNode() }
      for (const each of orderOf(i, contenders)) {
        try {
          const measured = await measureOne(each, options)
          round.measured[each] = measured
          tell(`round ${i + 1} of ${settings.rounds},`, each, measured)
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error)
          say(`round ${i + 1}, ${each} failed: ${message}`)
          bench.failures.push({ round: i + 1, contender: each, message })
        }
      }
      bench.rounds.push(round)
      // What ends it later leaves the rounds that were.
      writeFileSync(`${result}.partial`, JSON.stringify(bench))
      renameSync(`${result}.partial`, result)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const [settings = '', result = ''] = process.argv.slice(2)
await run(JSON.parse(readFileSync(settings, 'utf8')) as Settings, result)
