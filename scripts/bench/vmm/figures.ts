// Medians of all rounds, and ours as a multiple of each other's: by rounds, so that what slows a round slows both sides.

import { median, medianInterval } from '../statistics.ts'
import { CONTENDERS, type Contender } from './contenders.ts'
import { COUNTED } from './counts.ts'
import type { VmmBench } from './inside.ts'
import { atSamePace, type Pair, type Ratio, type Sample } from './pace.ts'
import type { Boot, Moved, Of } from './round.ts'
import { STAGES, type Stage } from './running-guest.ts'
import { MODES, type Mode } from './traffic.ts'

export type Group = 'stage' | 'rate' | 'count' | 'memory'

/** One thing that was measured. */
export interface Line {
  /** `'answered'`, `'tcp-out'`, `'tcp-out kicks'`, `'pss'` */
  id: string
  group: Group
  title: string
  values: Partial<Record<Contender, number>>
  /** Ours divided by theirs: the median of the rounds' ratios; of counts the ratio at the same pace. */
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
  /** Of each round the samples that there are. */
  samples: (bench: Measured) => Of<Sample>[]
  /** Whether the pace says more than the time at which a sample was taken. */
  samePace: boolean
}

type Measured = Pick<VmmBench, 'boots' | 'traffic'>

const NO_PACE = 0

/** Of a round of this the samples, where `of` finds one. */
function samplesOf<T>(round: Of<T>, of: (measured: T) => Sample | undefined): Of<Sample> {
  const found = CONTENDERS.flatMap((contender) => {
    const sample = round[contender] === undefined ? undefined : of(round[contender])
    return sample === undefined ? [] : [[contender, sample] as const]
  })
  return Object.fromEntries(found)
}

const ofBoots = (of: (boot: Boot) => number) => ({
  samePace: false,
  samples: ({ boots }: Measured) =>
    boots.map(({ booted }) => samplesOf(booted, (boot) => ({ count: of(boot), pace: NO_PACE }))),
})

const ofTraffic = (of: (moved: Moved) => Sample | undefined, samePace: boolean) => ({
  samePace,
  samples: ({ traffic }: Measured) => traffic.map((round) => samplesOf(round, of)),
})

const STAGE_LINES = STAGES.map(
  (stage): Wanted => ({
    id: stage,
    group: 'stage',
    title: STAGE_TITLES[stage],
    ...ofBoots(({ stages }) => stages[stage]),
  }),
)

const RATE_LINES = MODES.map((mode): Wanted => {
  const { unit, scale } = RATE_UNITS[mode]
  const of = ({ rates: { [mode]: rate } }: Moved) =>
    rate === undefined ? undefined : { count: rate * scale, pace: NO_PACE }
  return { id: mode, group: 'rate', title: `${MODE_TITLES[mode]}, ${unit}`, ...ofTraffic(of, false) }
})

const COUNT_LINES = MODES.flatMap((mode) =>
  COUNTED.map((what): Wanted => {
    const of = ({ counts: { [mode]: counted } }: Moved) =>
      counted === undefined
        ? undefined
        : { count: counted[what] / counted.packets, pace: counted.milliseconds / 1000 / counted.packets }
    return { id: `${mode} ${what}`, group: 'count', title: COUNT_TITLES[what], ...ofTraffic(of, true) }
  }),
)

const PSS_LINE: Wanted = {
  id: 'pss',
  group: 'memory',
  title: 'Pss less guest RAM, MiB',
  ...ofBoots(({ pss }) => (pss.total - pss.ram) / MiB),
}

/** Neither of both is as much as the other. */
const divide = (ours: number, theirs: number): number => (ours === theirs ? 1 : ours / theirs)

function compare(pairs: readonly Pair[], samePace: boolean): Ratio {
  if (samePace) return atSamePace(pairs)
  const quotients = pairs.map(({ ours, theirs }) => divide(ours.count, theirs.count))
  return { value: median(quotients), ...medianInterval(quotients) }
}

export function summarize(bench: Measured): Line[] {
  return [...STAGE_LINES, ...RATE_LINES, ...COUNT_LINES, PSS_LINE].flatMap(({ samples, samePace, ...line }): Line[] => {
    const rounds = samples(bench)
    const values: Line['values'] = {}
    const ratios: Line['ratios'] = {}
    for (const contender of CONTENDERS) {
      const counts = rounds.flatMap(({ [contender]: sample }) => sample?.count ?? [])
      const pairs = rounds.flatMap(({ ours, [contender]: theirs }): Pair[] =>
        ours && theirs ? [{ ours, theirs }] : [],
      )
      if (counts.length > 0) values[contender] = median(counts)
      if (contender !== 'ours' && pairs.length > 0) ratios[contender] = compare(pairs, samePace)
    }
    return Object.keys(values).length === 0 ? [] : [{ ...line, values, ratios }]
  })
}

/** Of a Node.js that does nothing. */
export const bareNodePss = ({ boots }: Pick<VmmBench, 'boots'>): number =>
  median(boots.map(({ bareNode }) => bareNode.total)) / MiB
