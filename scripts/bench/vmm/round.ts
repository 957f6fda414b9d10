// One contender boots its guest, moves all kinds of traffic, and is gone.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { type Contender, commandOf, type Guest } from './contenders.ts'
import { Counters, type Counts } from './counts.ts'
import { HOST_ADDRESS } from './guest.ts'
import { Machine } from './machine.ts'
import { type Pss, pssOf } from './memory.ts'
import { FirstEvent } from './tracefs.ts'
import { type Mode, Traffic } from './traffic.ts'

export const STAGES = ['entered', 'probe', 'driver-ok', 'answered'] as const
export type Stage = (typeof STAGES)[number]

/** What the guest finds, to be the same with all. */
export interface Facts {
  /** Bits that its driver accepted: a string of 0 and 1, the lowest first. */
  features: string
  vectors: string
  rings: string
}

export interface Measured {
  /** Milliseconds since the process was started. */
  stages: Record<Stage, number>
  /** In a second: bytes, packets or pairs. */
  rates: Partial<Record<Mode, number>>
  counts: Partial<Record<Mode, Counts>>
  pss: Pss
  facts: Facts
}

export interface RoundOptions {
  guest: Guest
  /** The program of traffic.c. */
  traffic: string
  /** Milliseconds of traffic for a rate, and for counts. */
  rateMs: number
  countMs: number
  modes: readonly Mode[]
}

const MiB = 2 ** 20
const NS_PER_MS = 1e6

function ip(...words: string[]): void {
  const { status, stderr, error } = spawnSync('ip', words, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`ip ${words.join(' ')}: ${error?.message ?? stderr}`)
}

/** A new one for each boot: what a VMM sets on a tap that it did not make stays when it is killed. */
function makeTap({ ifname, smp }: Guest): void {
  ip('tuntap', 'add', 'dev', ifname, 'mode', 'tap', 'vnet_hdr', ...(smp === 1 ? [] : ['multi_queue']))
  writeFileSync(`/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`, '1')
  ip('addr', 'add', `${HOST_ADDRESS}/24`, 'dev', ifname)
  ip('link', 'set', ifname, 'up')
}

/** What happens between the start of its process and the first answer of its host. */
async function boot(machine: Machine, first: FirstEvent): Promise<Measured['stages']> {
  const stages = { entered: Number.NaN, probe: 0, 'driver-ok': 0, answered: 0 }
  for (const stage of STAGES) if (stage !== 'entered') stages[stage] = (await machine.mark(stage)).at
  const entered = first.ns
  if (entered === undefined) throw new Error('no vCPU was seen to enter its guest')
  return { ...stages, entered: Number(entered - machine.startedNs) / NS_PER_MS }
}

async function facts(machine: Machine): Promise<Facts> {
  const value = async (name: string): Promise<string> => (await machine.mark(name)).value
  return { features: await value('features'), vectors: await value('vectors'), rings: (await value('rings')).trim() }
}

export async function measureOne(contender: Contender, options: RoundOptions): Promise<Measured> {
  makeTap(options.guest)
  const traffic = new Traffic(options.traffic)
  try {
    await traffic.listens()
    return await measureGuest(commandOf(contender, options.guest), traffic, options)
  } finally {
    await traffic.close()
    ip('link', 'del', options.guest.ifname)
  }
}

async function measureGuest(command: readonly string[], traffic: Traffic, options: RoundOptions): Promise<Measured> {
  const { guest, modes, rateMs } = options
  const first = new FirstEvent('vmm-bench', 'kvm/kvm_entry', 'kvm/kvm_exit')
  const machine = new Machine(command)
  try {
    const stages = await boot(machine, first).finally(() => first[Symbol.dispose]())
    const found = await facts(machine)
    await traffic.connected()
    const rates: Measured['rates'] = {}
    for (const mode of modes) rates[mode] = await traffic.during(mode, () => setTimeout(rateMs))
    const pss = pssOf(machine.pid, guest.memory * MiB)
    const counts = await countAll(traffic, machine.pid, options)
    return { stages, rates, counts, pss, facts: found }
  } finally {
    await machine.close()
  }
}

async function countAll(
  traffic: Traffic,
  pid: number,
  { guest, modes, countMs }: Pick<RoundOptions, 'guest' | 'modes' | 'countMs'>,
): Promise<Measured['counts']> {
  const counts: Measured['counts'] = {}
  using counters = new Counters(pid, guest.ifname)
  for (const mode of modes) {
    await traffic.during(mode, async () => {
      counts[mode] = await counters.during(() => setTimeout(countMs))
    })
  }
  return counts
}
