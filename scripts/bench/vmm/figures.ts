// Medians of all rounds, and ours as a multiple of each other's: by rounds, so that what slows a round slows both sides.

import { type Interval, median, medianInterval } from '../statistics.ts'
import { CONTENDERS, type Contender } from './contenders.ts'
import { COUNTED } from './counts.ts'
import type { VmmBench } from './inside.ts'
import { type Measured, STAGES, type Stage } from './round.ts'
import { MODES, type Mode } from './traffic.ts'

export type Group = 'stage' | 'rate' | 'count' | 'memory'

export interface Ratio extends Interval {
  median: number
}

/** One thing that was measured. */
export interface Line {
  /** `'answered'`, `'tcp-out'`, `'tcp-out kicks'`, `'pss'` */
  id: string
  group: Group
  title: string
  values: Partial<Record<Contender, number>>
  /** Ours divided by theirs. */
  ratios: Partial<Record<Contender, Ratio>>
}

const STAGE_TITLES: Readonly<Record<Stage, string>> = {
  entered: 'first guest instruction, ms',
  probe: 'driver is loaded, ms',
  'driver-ok': 'DRIVER_OK, ms',
  answered: 'first ping answered, ms',
}

export const MODE_TITLES: Readonly<Record<Mode, string>> = {
  'tcp-out': 'TCP from the guest',
  'tcp-in': 'TCP to the guest',
  'udp-out': 'UDP from the guest',
  'udp-in': 'UDP to the guest',
  rr: 'request and response',
}

const BITS_PER_MBIT_BYTE = 8 / 1e6

const RATE_UNITS: Readonly<Record<Mode, { unit: string; scale: number }>> = {
  'tcp-out': { unit: 'Mbit/s', scale: BITS_PER_MBIT_BYTE },
  'tcp-in': { unit: 'Mbit/s', scale: BITS_PER_MBIT_BYTE },
  'udp-out': { unit: 'packets/s', scale: 1 },
  'udp-in': { unit: 'packets/s', scale: 1 },
  rr: { unit: '/s', scale: 1 },
}

export const COUNT_TITLES: Readonly<Record<(typeof COUNTED)[number], string>> = {
  kicks: 'kicks',
  calls: 'calls',
  exits: 'KVM exits',
  userExits: 'user-space exits',
  wakeUps: 'event-loop wake-ups',
}

const MiB = 2 ** 20

interface Wanted extends Pick<Line, 'id' | 'group' | 'title'> {
  of: (measured: Measured) => number | undefined
}

const STAGE_LINES = STAGES.map(
  (stage): Wanted => ({ id: stage, group: 'stage', title: STAGE_TITLES[stage], of: ({ stages }) => stages[stage] }),
)

const RATE_LINES = MODES.map((mode): Wanted => {
  const { unit, scale } = RATE_UNITS[mode]
  const of = ({ rates }: Measured) => (rates[mode] === undefined ? undefined : rates[mode] * scale)
  return { id: mode, group: 'rate', title: `${MODE_TITLES[mode]}, ${unit}`, of }
})

const COUNT_LINES = MODES.flatMap((mode) =>
  COUNTED.map((what): Wanted => {
    const of = ({ counts }: Measured) => {
      const counted = counts[mode]
      return counted === undefined ? undefined : counted[what] / counted.packets
    }
    return { id: `${mode} ${what}`, group: 'count', title: COUNT_TITLES[what], of }
  }),
)

const PSS_LINE: Wanted = {
  id: 'pss',
  group: 'memory',
  title: 'Pss less guest RAM, MiB',
  of: ({ pss }) => (pss.total - pss.ram) / MiB,
}

/** Neither of both is as much as the other. */
const divide = (ours: number, theirs: number): number => (ours === theirs ? 1 : ours / theirs)

export function summarize({ rounds }: VmmBench): Line[] {
  return [...STAGE_LINES, ...RATE_LINES, ...COUNT_LINES, PSS_LINE].flatMap(({ of, ...line }): Line[] => {
    const values: Line['values'] = {}
    const ratios: Line['ratios'] = {}
    for (const contender of CONTENDERS) {
      const pairs = rounds.flatMap(({ measured: { ours, [contender]: theirs } }) => {
        const [our, their] = [ours, theirs].map((measured) => (measured === undefined ? undefined : of(measured)))
        return their === undefined ? [] : [{ our, their }]
      })
      if (pairs.length === 0) continue
      values[contender] = median(pairs.map(({ their }) => their))
      const quotients = pairs.flatMap(({ our, their }) => (our === undefined ? [] : [divide(our, their)]))
      if (contender === 'ours' || quotients.length === 0) continue
      ratios[contender] = { median: median(quotients), ...medianInterval(quotients) }
    }
    return Object.keys(values).length === 0 ? [] : [{ ...line, values, ratios }]
  })
}

/** Of a Node.js that does nothing. */
export const bareNodePss = ({ rounds }: VmmBench): number => median(rounds.map(({ bareNode }) => bareNode.total)) / MiB
