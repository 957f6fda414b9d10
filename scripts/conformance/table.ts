// What `npm run conformance` tells: a line for each chapter, then what is missing.

import { wrap } from '../wrap.ts'
import { type Chapter, type Conformance, STATUSES } from './check.ts'

const COLUMNS = ['chapter', 'rows', ...STATUSES, 'missing']

const cells = ({ name, rows, counts, missing }: Chapter): string[] =>
  [name, rows, ...STATUSES.map((status) => counts[status]), missing.length].map(String)

function total(chapters: readonly Chapter[]): string[] {
  const numbers = chapters.map((chapter) => cells(chapter).slice(1).map(Number))
  return ['all', ...COLUMNS.slice(1).map((_, i) => String(numbers.reduce((sum, row) => sum + row[i]!, 0)))]
}

/** Lines of at most `width` columns, which is 80 at least. */
export function conformanceTable({ chapters, problems }: Conformance, width: number): string[] {
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(7) : cell.padStart(COLUMNS[i]!.length))).join(' ')
  return [
    line(COLUMNS),
    ...chapters.map((chapter) => line(cells(chapter))),
    line(total(chapters)),
    ...chapters
      .filter(({ missing }) => missing.length > 0)
      .flatMap(({ name, missing }) => ['', `${name} misses`, ...wrap(missing, width - 2).map((ids) => `  ${ids}`)]),
    ...(problems.length > 0 ? ['', ...problems] : []),
  ]
}
