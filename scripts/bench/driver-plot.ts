// The result of `npm run bench -- driver` as a picture: a bar for each path, as a multiple of the program in C.

import type { DriverBench } from '../../test/bench/driver/main.ts'
import type { Figure } from './driver-figures.ts'

const WIDTH = 760
const LABEL = 250
const BAR = 16
const GAP = 6
const TOP = 48

const COLOURS: Readonly<Record<string, string>> = { C: '#888', 'native loop': '#2a7', 'JavaScript bursts': '#27c' }
const OTHER = '#c73'

const escapeText = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

/** From 0.5 to 50 times C, by its logarithm: the paths differ by orders of magnitude. */
function lengthOf(ratio: number): number {
  const [least, most] = [Math.log(0.5), Math.log(50)]
  const part = (Math.log(ratio) - least) / (most - least)
  return Math.max(1, Math.min(1, part) * (WIDTH - LABEL - 130))
}

export function plotDriver({ kernel, node }: DriverBench, figures: readonly Figure[]): string {
  const bars = figures.map(({ direction, size, path, instructions, ratio }, i) => {
    const y = TOP + i * (BAR + GAP)
    const middle = y + BAR - 4
    const length = lengthOf(ratio)
    const value = `${Math.round(instructions).toLocaleString('en-US')} (${ratio.toFixed(2)} × C)`
    return [
      `<text x="${LABEL - 8}" y="${middle}" text-anchor="end">${escapeText(`${direction} ${size} ${path}`)}</text>`,
      `<rect x="${LABEL}" y="${y}" width="${length.toFixed(1)}" height="${BAR}" fill="${COLOURS[path] ?? OTHER}"/>`,
      `<text x="${(LABEL + length + 6).toFixed(1)}" y="${middle}">${escapeText(value)}</text>`,
    ].join('')
  })
  const height = TOP + figures.length * (BAR + GAP) + GAP
  const title = `Instructions for a packet, whole machine; Linux ${kernel}, Node.js ${node}; logarithmic`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/><text x="12" y="24" font-size="14">${escapeText(title)}</text>`,
    ...bars,
    '</svg>',
    '',
  ].join('\n')
}
