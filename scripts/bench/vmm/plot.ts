// The result of `npm run bench -- vmm` as a picture: each contender beside QEMU pc with vhost=on.

import { type Bar, barChart } from '../svg.ts'
import { CONTENDERS, type Contender, TITLES } from './contenders.ts'
import { type Line, MODE_TITLES } from './figures.ts'
import type { VmmBench } from './inside.ts'
import { figure } from './table.ts'
import type { Mode } from './traffic.ts'

const COLOURS: Readonly<Record<Contender, string>> = { ours: '#27c', pc: '#888', microvm: '#aaa', 'user-space': '#c73' }
/** As a multiple of QEMU pc; what is beyond ends there. */
const MOST = 3

export function plotVmm({ host, traffic, boots }: VmmBench, lines: readonly Line[]): string {
  const bars = lines.flatMap(({ id, group, title, values }): Bar[] => {
    const { pc } = values
    if (pc === undefined || pc === 0) return []
    const of = group === 'count' ? `${MODE_TITLES[id.split(' ')[0] as Mode]}: ${title} of a packet` : title
    return CONTENDERS.flatMap((contender, i) => {
      const value = values[contender]
      if (value === undefined) return []
      const bar = { label: TITLES[contender], length: value / pc / MOST, colour: COLOURS[contender] }
      const text = `${figure(value)} (${(value / pc).toFixed(2)} × pc)`
      return [i === 0 ? { ...bar, text, heading: of } : { ...bar, text }]
    })
  })
  return barChart(
    `VMMs in QEMU that emulates the CPU; Linux ${host}, medians of ${boots.length} boots and ${traffic.length} rounds of traffic`,
    bars,
  )
}
