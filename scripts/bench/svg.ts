// Figures as a picture: a bar for each.

const WIDTH = 760
const LABEL = 250
const BAR = 16
const GAP = 6
const TOP = 48
/** For the text behind the longest bar. */
const ROOM = 130

export interface Bar {
  label: string
  /** Of the longest one, 0 to 1. */
  length: number
  /** What is written behind it. */
  text: string
  colour: string
  /** Under a heading of its own, as are those that follow. */
  heading?: string
}

const escapeText = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

export function barChart(title: string, bars: readonly Bar[]): string {
  let y = TOP
  const parts: string[] = []
  for (const { label, length, text, colour, heading } of bars) {
    if (heading !== undefined) {
      parts.push(`<text x="12" y="${y + BAR - 4}" font-weight="bold">${escapeText(heading)}</text>`)
      y += BAR + GAP
    }
    const middle = y + BAR - 4
    const width = Math.max(1, Math.min(1, length) * (WIDTH - LABEL - ROOM))
    parts.push(
      [
        `<text x="${LABEL - 8}" y="${middle}" text-anchor="end">${escapeText(label)}</text>`,
        `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${colour}"/>`,
        `<text x="${(LABEL + width + 6).toFixed(1)}" y="${middle}">${escapeText(text)}</text>`,
      ].join(''),
    )
    y += BAR + GAP
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + GAP}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/><text x="12" y="24" font-size="14">${escapeText(title)}</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}
