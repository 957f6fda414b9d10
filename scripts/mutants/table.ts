// What `npm run mutants` tells: lines as it goes, and the table at its end.

import { styleText } from 'node:util'
import type { Fault } from '../../test/mutants/fault.ts'
import type { Verdict } from './verdict.ts'

export interface Judged {
  readonly fault: Fault
  /** 1-based; undefined where the line is not found once. */
  readonly lineNumber: number | undefined
  readonly verdict: Verdict
}

const paint = (stream: NodeJS.WriteStream, format: 'green' | 'red' | 'dim', text: string): string =>
  stream.isTTY && stream.hasColors() ? styleText(format, text) : text

const cut = (text: string, width: number): string => (text.length <= width ? text : `${text.slice(0, width - 1)}…`)

export const placeOf = ({ fault, lineNumber }: Pick<Judged, 'fault' | 'lineNumber'>): string =>
  `${fault.file}:${lineNumber ?? '?'}`

const word = (stream: NodeJS.WriteStream, { caught }: Verdict): string =>
  caught ? paint(stream, 'green', 'caught  ') : paint(stream, 'red', 'SURVIVED')

export const progressLine = (stream: NodeJS.WriteStream, done: number, all: number, { fault, verdict }: Judged) => {
  const count = `${String(done).padStart(String(all).length)}/${all}`
  const why = verdict.caught ? '' : `: ${verdict.why}`
  return `mutants: ${count}  ${word(stream, verdict)}  ${fault.name}${why}`
}

/** Two lines each: the fault and where it is; which test noticed. */
export const table = (stream: NodeJS.WriteStream, all: readonly Judged[]): string[] => {
  const width = Math.max(stream.columns ?? 120, 60)
  return all.flatMap((judged) => {
    const { fault, verdict } = judged
    const place = placeOf(judged)
    const name = cut(fault.name, width - place.length - 12)
    const gap = ' '.repeat(width - 10 - name.length - place.length)
    const by = verdict.caught ? `${fault.test}: ${fault.title}` : verdict.why.replaceAll('\n', ' ')
    return [
      `${word(stream, verdict)}  ${name}${gap}${paint(stream, 'dim', place)}`,
      `          ${paint(stream, verdict.caught ? 'dim' : 'red', cut(by, width - 10))}`,
    ]
  })
}
