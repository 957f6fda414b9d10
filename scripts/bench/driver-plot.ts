// The result of `npm run bench -- driver` as a picture: a bar for each path, as a multiple of the program in C.

import type { DriverBench } from '../../test/bench/driver/main.ts'
import type { Figure } from './driver-figures.ts'
import { barChart } from './svg.ts'

const COLOURS: Readonly<Record<string, string>> = { C: '#888', 'native loop': '#2a7', 'JavaScript bursts': '#27c' }
const OTHER = '#c73'

/** From 0.5 to 50 times C, by its logarithm: the paths differ by orders of magnitude. */
function lengthOf(ratio: number): number {
  const [least, most] = [Math.log(0.5), Math.log(50)]
  return (Math.log(ratio) - least) / (most - least)
}

export function plotDriver({ kernel, node }: DriverBench, figures: readonly Figure[]): string {
  return barChart(
    `Instructions for a packet, whole machine; Linux ${kernel}, Node.js ${node}; logarithmic`,
    figures.map(({ direction, size, path, instructions, ratio }) => ({
      label: `${direction} ${size} ${path}`,
      length: lengthOf(ratio),
      text: `${Math.round(instructions).toLocaleString('en-US')} (${ratio.toFixed(2)} × C)`,
      colour: COLOURS[path] ?? OTHER,
    })),
  )
}
