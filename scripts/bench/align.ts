// Tables of a benchmark.

/** Columns of numbers to the right, of words to the left. */
export function align(rows: readonly (readonly string[])[], words: readonly number[] = []): string[] {
  const widths = (rows[0] as string[]).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows.map((row) =>
    row
      .map((cell, column) =>
        words.includes(column) ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
      )
      .join('  ')
      .trimEnd(),
  )
}
