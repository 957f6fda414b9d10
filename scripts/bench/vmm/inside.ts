// What `npm run bench -- vmm` runs in the lab: all rounds, in one boot of it. `node inside.js SETTINGS RESULT`, JSON files.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import path from 'node:path'
import type { GuestKernelName } from '../../lab/kernels.ts'
import { type Contender, commandOf, type Guest, orderOf, quote } from './contenders.ts'
import { makeGuest } from './guest.ts'
import { bareNode } from './memory.ts'
import { type BootRound, bootAlone, type Moved, type Of, trafficRound } from './round.ts'
import { RunningGuest } from './running-guest.ts'
import { mountTracing } from './tracefs.ts'
import type { Mode } from './traffic.ts'

export interface Settings {
  /** Of boots, and of traffic. */
  boots: number
  rounds: number
  contenders: readonly Contender[]
  modes: readonly Mode[]
  kernel: GuestKernelName
  image: 'vmlinux' | 'vmlinuz'
  smp: number
  memory: number
  /** Of each traffic. */
  milliseconds: number
  /** The program of traffic.c. */
  traffic: string
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
  boots: BootRound[]
  traffic: Of<Moved>[]
  /** Boots that came to nothing, for which their round has a gap. */
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

/** What ends it later leaves the rounds that were. */
function keep(bench: VmmBench, result: string): void {
  writeFileSync(`${result}.partial`, JSON.stringify(bench))
  renameSync(`${result}.partial`, result)
}

/** Round 0 is not kept: the first one to read a program waits for the lab's share. */
async function measureBoots(bench: VmmBench, guest: Guest, program: string, keepThem: () => void): Promise<void> {
  const { boots, contenders } = bench.settings
  for (let i = 0; i <= boots; i++) {
    const round: BootRound = { booted: {}, bareNode: await bareNode() }
    for (const each of orderOf(i, contenders)) {
      try {
        const booted = await bootAlone(each, guest, program)
        round.booted[each] = booted
        say(`boot ${i} of ${boots}, ${each}: first ping after ${Math.round(booted.stages.answered)} ms`)
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        say(`boot ${i}, ${each} failed: ${message}`)
        bench.failures.push({ round: i, contender: each, message })
      }
    }
    if (i === 0) continue
    bench.boots.push(round)
    keepThem()
  }
}

async function measureTraffic(bench: VmmBench, guest: Guest, program: string, keepThem: () => void): Promise<void> {
  const { rounds, contenders, modes, milliseconds } = bench.settings
  const running = new Map<Contender, RunningGuest>()
  try {
    for (const each of contenders) {
      running.set(each, await RunningGuest.boot(each, guest, program))
      say(`${each} waits for traffic`)
    }
    for (let i = 0; i < rounds; i++) {
      const guests = orderOf(i, contenders).map((each) => running.get(each) as RunningGuest)
      bench.traffic.push(await trafficRound(guests, modes, milliseconds))
      keepThem()
      say(`traffic ${i + 1} of ${rounds}`)
    }
  } finally {
    for (const each of running.values()) await each.close()
  }
}

async function run({ traffic: program, ...settings }: Settings, result: string): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'bench-'))
  try {
    mountTracing()
    const { kernel, image, smp, memory, contenders } = settings
    const guest = await makeGuest({ kernel, image, traffic: program, smp, memory, directory })
    const bench: VmmBench = {
      host: release(),
      node: process.version,
      qemu: qemuVersion(),
      settings,
      commands: Object.fromEntries(contenders.map((each) => [each, quote(commandOf(each, guest))])),
      boots: [],
      traffic: [],
      failures: [],
    }
    const keepThem = () => keep(bench, result)
    await measureTraffic(bench, guest, program, keepThem)
    await measureBoots(bench, guest, program, keepThem)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const [settings = '', result = ''] = process.argv.slice(2)
await run(JSON.parse(readFileSync(settings, 'utf8')) as Settings, result)
