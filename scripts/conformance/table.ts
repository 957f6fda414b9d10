// What `npm run conformance` tells: a line for each chapter, then what is missing, and what the kernel breaks.

import { wrap } from '../wrap.ts'
import { type Chapter, type Conformance, STATUSES } from './check.ts'

const COLUMNS = ['chapter', 'rows', ...STATUSES, 'missing']

const cells = ({ name, rows, counts, missing }: Chapter): string[] =>
  [name, rows, ...STATUSES.map((status) => counts[status]), missing.length].map(String)

function total(chapters: readonly Chapter[]): string[] {
  const numbers = chapters.map((chapter) => cells(chapter).slice(1).map(Number))
  return ['all', ...COLUMNS.slice(1).map((_, i) => String(numbers.reduce((sum, row) => sum + row[i]!, 0)))]
}

/** The first line of a rule, and those that go on. */
const indent = (line: string, index: number): string => `${index === 0 ? '  ' : '    '}${line}`

/** Lines of at most `width` columns, which is 80 at least. */
export function conformanceTable({ chapters, broken, problems }: Conformance, width: number): string[] {
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(7) : cell.padStart(COLUMNS[i]!.length))).join(' ')
  return [
    line(COLUMNS),
    ...chapters.map((chapter) => line(cells(chapter))),
    line(total(chapters)),
    ...chapters
      .filter(({ missing }) => missing.length > 0)
      .flatMap(({ name, missing }) => ['', `${name} misses`, ...wrap(missing, width - 2).map((ids) => `  ${ids}`)]),
    ...(broken.length > 0 ? ['', 'Tested, but the kernel breaks'] : []),
    ...broken.flatMap(({ id, note }) => wrap(`${id}: ${note}`.split(' '), width - 4).map(indent)),
    ...(problems.length > 0 ? ['', ...problems] : []),
  ]
}
