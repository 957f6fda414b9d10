// A contender with its guest and its tap, from its start to its end.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { type Contender, commandOf, type Guest, type Network, networkOf } from './contenders.ts'
import { hostAddress, portOf } from './guest.ts'
import { Machine } from './machine.ts'
import { FirstEvent } from './tracefs.ts'
import { Traffic } from './traffic.ts'

export const STAGES = ['entered', 'probe', 'driver-ok', 'answered'] as const
export type Stage = (typeof STAGES)[number]

/** Milliseconds since the process was started. */
export type Stages = Record<Stage, number>

/** What the guest finds, to be the same with all. */
export interface Facts {
  /** Bits that its driver accepted: a string of 0 and 1, the lowest first. */
  features: string
  vectors: string
  rings: string
}

const NS_PER_MS = 1e6

function ip(...words: string[]): void {
  const { status, stderr, error } = spawnSync('ip', words, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`ip ${words.join(' ')}: ${error?.message ?? stderr}`)
}

/** A new one for each boot: what a VMM sets on a tap that it did not make stays when it is killed. */
function makeTap(network: Network, smp: number): void {
  const { ifname } = network
  ip('tuntap', 'add', 'dev', ifname, 'mode', 'tap', 'vnet_hdr', ...(smp === 1 ? [] : ['multi_queue']))
  writeFileSync(`/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`, '1')
  ip('addr', 'add', `${hostAddress(network)}/24`, 'dev', ifname)
  ip('link', 'set', ifname, 'up')
}

export class RunningGuest {
  readonly contender: Contender
  readonly network: Network
  readonly machine: Machine
  readonly traffic: Traffic
  readonly stages: Stages
  readonly facts: Facts

  private constructor(
    contender: Contender,
    parts: { network: Network; machine: Machine; traffic: Traffic; stages: Stages; facts: Facts },
  ) {
    this.contender = contender
    this.network = parts.network
    this.machine = parts.machine
    this.traffic = parts.traffic
    this.stages = parts.stages
    this.facts = parts.facts
  }

  /** @param program of traffic.c @returns once its guest waits for traffic */
  static async boot(contender: Contender, guest: Guest, program: string): Promise<RunningGuest> {
    const network = networkOf(contender)
    makeTap(network, guest.smp)
    const traffic = new Traffic(program, portOf(network))
    let machine: Machine | undefined
    try {
      await traffic.listens()
      const first = new FirstEvent('vmm-bench', 'kvm/kvm_entry', 'kvm/kvm_exit')
      machine = new Machine(commandOf(contender, guest))
      const stages = await stagesOf(machine, first).finally(() => first[Symbol.dispose]())
      const facts = await factsOf(machine)
      await traffic.connected()
      return new RunningGuest(contender, { network, machine, traffic, stages, facts })
    } catch (error) {
      await end(network, machine, traffic)
      throw error
    }
  }

  async close(): Promise<void> {
    await end(this.network, this.machine, this.traffic)
  }
}

async function end({ ifname }: Network, machine: Machine | undefined, traffic: Traffic): Promise<void> {
  await machine?.close()
  await traffic.close()
  ip('link', 'del', ifname)
}

/** `entered` says something only of one that runs alone: of others a vCPU may come first. */
async function stagesOf(machine: Machine, first: FirstEvent): Promise<Stages> {
  const stages = { entered: Number.NaN, probe: 0, 'driver-ok': 0, answered: 0 }
  for (const stage of STAGES) if (stage !== 'entered') stages[stage] = (await machine.mark(stage)).at
  const entered = first.ns
  if (entered === undefined) throw new Error('no vCPU was seen to enter its guest')
  return { ...stages, entered: Number(entered - machine.startedNs) / NS_PER_MS }
}

async function factsOf(machine: Machine): Promise<Facts> {
  const value = async (name: string): Promise<string> => (await machine.mark(name)).value
  return { features: await value('features'), vectors: await value('vectors'), rings: (await value('rings')).trim() }
}
