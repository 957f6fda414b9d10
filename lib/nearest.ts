// The word that was probably meant.

/** Letters to change, add or drop, or neighbours to swap, on the way from one word to the other (Damerau, 1964). */
function distance(from: string, to: string): number {
  const rows: number[][] = [Array.from({ length: to.length + 1 }, (_, j) => j)]
  const at = (i: number, j: number): number => rows[i]![j]!
  for (let i = 1; i <= from.length; i++) {
    const row = [i]
    rows.push(row)
    for (let j = 1; j <= to.length; j++) {
      const change = at(i - 1, j - 1) + (from[i - 1] === to[j - 1] ? 0 : 1)
      row[j] = Math.min(change, at(i - 1, j) + 1, row[j - 1]! + 1)
      const swapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]
      if (swapped) row[j] = Math.min(row[j]!, at(i - 2, j - 2) + 1)
    }
  }
  return at(from.length, to.length)
}

/** Which of `known` is nearest to `word`; undefined where none is near: a third of its letters may be wrong. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (text: string): string => text.toLowerCase().replaceAll('-', '_')
  let best: { name: string; far: number } | undefined
  for (const name of known) {
    const far = distance(plain(word), plain(name))
    if (far <= Math.max(1, name.length / 3) && far < (best?.far ?? Number.POSITIVE_INFINITY)) best = { name, far }
  }
  return best?.name
}
