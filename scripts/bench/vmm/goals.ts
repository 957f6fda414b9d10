// What must be reached, and what was.

import type { Contender } from './contenders.ts'
import { COUNTED } from './counts.ts'
import { bareNodePss, COUNT_TITLES, type Line, MODE_TITLES, summarize } from './figures.ts'
import type { VmmBench } from './inside.ts'
import type { Ratio } from './pace.ts'
import { MODES } from './traffic.ts'

export interface Verdict {
  what: string
  value: number
  limit: number
  kind: 'at most' | 'at least'
  /** The value's interval, where it has one. */
  low?: number
  high?: number
  /** Whether the command fails without it. */
  gate: boolean
  reached: boolean
  /** Not even the near end of the interval reaches it: it is not the rounds that it was measured in. */
  shown: boolean
}

const MOST_NOTIFICATIONS = 1.05
/** Of a thousand packets not one wakes it; V8's own timers do, a few times a second. */
const MOST_WAKE_UPS = 0.001
const LEAST_RATE = 0.97
/** The upper end of a rate's interval: the rounds do not show that we are slower. */
const LEAST_UPPER_END = 1
const MOST_START: Readonly<Partial<Record<Contender, number>>> = { pc: 0.8, microvm: 1 }
const MOST_MORE_MEMORY_MB = 12

const MB_PER_MIB = 2 ** 20 / 1e6

type Measure = Omit<Verdict, 'reached' | 'shown'>

const judged = (measure: Measure): Verdict => {
  const { kind, value, limit, low = value, high = value } = measure
  const reached = kind === 'at most' ? value <= limit : value >= limit
  return { ...measure, reached, shown: kind === 'at most' ? low > limit : high < limit }
}

const ends = ({ value, low, high }: Ratio) => ({ value, low, high })

export function judge(bench: VmmBench, lines: readonly Line[] = summarize(bench)): Verdict[] {
  const line = (id: string) => lines.find((each) => each.id === id)
  const perPacket = MODES.flatMap((mode) =>
    COUNTED.flatMap((counted): Measure[] => {
      const { values, ratios } = line(`${mode} ${counted}`) ?? { values: {}, ratios: {} }
      const what = `${MODE_TITLES[mode]}: ${COUNT_TITLES[counted]}`
      const kind = 'at most'
      if (counted === 'userExits' || counted === 'wakeUps') {
        if (values.ours === undefined) return []
        const limit = counted === 'wakeUps' ? MOST_WAKE_UPS : 0
        return [{ what: `${what} of a packet`, value: values.ours, limit, kind, gate: true }]
      }
      if (ratios.pc === undefined) return []
      return [{ what: `${what} / QEMU pc`, ...ends(ratios.pc), limit: MOST_NOTIFICATIONS, kind, gate: true }]
    }),
  )
  const rates = MODES.flatMap((mode): Measure[] => {
    const ratio = line(mode)?.ratios.pc
    if (ratio === undefined) return []
    const common = { kind: 'at least', gate: false } as const
    return [
      { what: `${MODE_TITLES[mode]} / QEMU pc`, ...ends(ratio), limit: LEAST_RATE, ...common },
      { what: `${MODE_TITLES[mode]} / QEMU pc, upper end`, value: ratio.high, limit: LEAST_UPPER_END, ...common },
    ]
  })
  const starts = (['pc', 'microvm'] as const).flatMap((contender): Measure[] => {
    const ratio = line('answered')?.ratios[contender]
    const [what, limit] = [`first ping answered / QEMU ${contender}`, MOST_START[contender] as number]
    return ratio === undefined ? [] : [{ what, ...ends(ratio), limit, kind: 'at most', gate: false }]
  })
  const pss = line('pss')?.values.ours
  const more: Measure[] =
    pss === undefined
      ? []
      : [
          {
            what: 'Pss less guest RAM, beyond bare Node.js, MB',
            value: (pss - bareNodePss(bench)) * MB_PER_MIB,
            limit: MOST_MORE_MEMORY_MB,
            kind: 'at most',
            gate: false,
          },
        ]
  return [...perPacket, ...rates, ...starts, ...more].map(judged)
}

/** 1 if the rounds show that something that gates is not reached. */
export const exitCodeOf = (verdicts: readonly Verdict[]): number =>
  verdicts.some(({ gate, shown }) => gate && shown) ? 1 : 0
