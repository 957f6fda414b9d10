// What is measured, in rounds: each contender boots alone; later all run, and have traffic one after the other.

import { setTimeout } from 'node:timers/promises'
import type { Contender, Guest } from './contenders.ts'
import { Counters, type Counts } from './counts.ts'
import { type Pss, pssOf } from './memory.ts'
import { type Facts, RunningGuest, type Stages } from './running-guest.ts'
import type { Mode } from './traffic.ts'

/** Of a contender that runs alone. */
export interface Boot {
  stages: Stages
  pss: Pss
  facts: Facts
}

/** Of a contender's guest, with all others idle. */
export interface Moved {
  /** In a second: bytes, packets or pairs. */
  rates: Partial<Record<Mode, number>>
  counts: Partial<Record<Mode, Counts>>
}

/** Of each contender once. */
export type Of<T> = Partial<Record<Contender, T>>

export interface BootRound {
  booted: Of<Boot>
  bareNode: Pss
}

const MiB = 2 ** 20

export async function bootAlone(contender: Contender, guest: Guest, program: string): Promise<Boot> {
  const running = await RunningGuest.boot(contender, guest, program)
  try {
    const { stages, facts, machine } = running
    return { stages, facts, pss: pssOf(machine.pid, guest.memory * MiB) }
  } finally {
    await running.close()
  }
}

/** One kind of traffic on each guest in turn, then the next: what is compared lies seconds apart. */
export async function trafficRound(
  guests: readonly RunningGuest[],
  modes: readonly Mode[],
  milliseconds: number,
): Promise<Of<Moved>> {
  const round: Of<Moved> = Object.fromEntries(guests.map(({ contender }) => [contender, { rates: {}, counts: {} }]))
  const wait = () => setTimeout(milliseconds)
  for (const mode of modes) {
    for (const { contender, traffic } of guests) round[contender]!.rates[mode] = await traffic.during(mode, wait)
  }
  using counters = new Counters()
  for (const mode of modes) {
    for (const { contender, traffic, machine, network } of guests) {
      await traffic.during(mode, async () => {
        round[contender]!.counts[mode] = await counters.during(machine.pid, network.ifname, wait)
      })
    }
  }
  return round
}
