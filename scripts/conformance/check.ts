// Holds what test/conformance says of each rule of the virtio specification against the tests that there are.

import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'

/** What is done about a rule, from best to worst. */
export const STATUSES = ['tested', 'not-offered', 'n/a', 'deviation'] as const
/** `'open'`: nothing yet. */
export type Status = (typeof STATUSES)[number] | 'open'

/** One rule. */
export interface Row {
  /** `'MMIO-D07'`: chapter, topic, and D for what binds the driver. */
  readonly id: string
  readonly status: string
  /** Why it is not tested, of `not-offered` the feature bit's name in front; or in what the host's kernel breaks it. */
  readonly note: string
}

export interface Chapter {
  readonly name: string
  readonly rows: number
  /** Rows by what is done about them, as far as the tests bear it out. */
  readonly counts: Readonly<Record<(typeof STATUSES)[number], number>>
  /** Ids of rows that are open, or say what no test bears out. */
  readonly missing: readonly string[]
}

export interface Conformance {
  readonly chapters: readonly Chapter[]
  /** Rules whose tests show in what the host's kernel breaks them, where packets flow without this package. */
  readonly broken: readonly Row[]
  /** Where rows, tests and README contradict each other. */
  readonly problems: readonly string[]
}

const CHAPTERS = ['BASE', 'RING', 'MMIO', 'PCI', 'NET']
const FEATURES = new Set([...Object.keys(VIRTIO_F), ...Object.keys(VIRTIO_NET_F)])

const isStatus = (word: string): word is Status => word === 'open' || (STATUSES as readonly string[]).includes(word)

const chapterOf = (id: string): string => id.slice(0, id.indexOf('-'))

/** The rows of a table: `id,status,note` in a line each, below a line with these words. */
export function parseRows(text: string): Row[] {
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.slice(1).map((line) => {
    const [id = '', status = '', ...note] = line.split(',')
    return { id, status, note: note.join(',') }
  })
}

/** What stands in brackets in test titles: ids of rules, and names of feature bits that are shown not to be offered. */
export function tagsOf(titles: Iterable<string>): Set<string> {
  const tags = new Set<string>()
  for (const title of titles) {
    for (const [, tag] of title.matchAll(/\[((?:BASE|RING|MMIO|PCI|NET)-[A-Z0-9-]+|VIRTIO_\w+)\]/g)) tags.add(tag!)
  }
  return tags
}

/** The feature bit that a row of status `not-offered` names. */
const featureOf = ({ note }: Row): string => note.split(/[ :,]/, 1)[0]!

/** Whether the tests bear out what the row says. */
function isBorneOut(row: Row, tags: ReadonlySet<string>): boolean {
  if (row.status === 'open') return false
  if (row.status === 'tested') return tags.has(row.id)
  return row.status !== 'not-offered' || tags.has(featureOf(row))
}

function problemsOf(row: Row, tags: ReadonlySet<string>, readme: string): string[] {
  const { id, status, note } = row
  if (!CHAPTERS.includes(chapterOf(id))) return [`${id}: is of no chapter`]
  if (!isStatus(status)) return [`${id}: '${status}' is no status`]
  const problems: string[] = []
  if (status !== 'tested' && tags.has(id)) problems.push(`${id}: is '${status}', and a test has it in its title`)
  if (status !== 'tested' && status !== 'open' && note === '') problems.push(`${id}: is '${status}' without a reason`)
  if (status === 'not-offered' && !FEATURES.has(featureOf(row))) problems.push(`${id}: names no feature bit`)
  if (status === 'deviation' && !readme.includes(id)) problems.push(`${id}: deviates, and the README does not say so`)
  return problems
}

/** @param titles of all tests, those of their suites in front. */
export function checkConformance(rows: readonly Row[], titles: Iterable<string>, readme: string): Conformance {
  const tags = tagsOf(titles)
  const ids = new Set<string>()
  const problems: string[] = []
  for (const row of rows) {
    if (ids.has(row.id)) problems.push(`${row.id}: is there twice`)
    ids.add(row.id)
    problems.push(...problemsOf(row, tags, readme))
  }
  for (const tag of tags) {
    if (!ids.has(tag) && !FEATURES.has(tag)) problems.push(`${tag}: is in a test's title, and there is no such rule`)
  }
  const chapters = CHAPTERS.map((name): Chapter => {
    const own = rows.filter(({ id }) => chapterOf(id) === name)
    const borneOut = own.filter((row) => isBorneOut(row, tags))
    const count = (status: string): number => borneOut.filter((row) => row.status === status).length
    return {
      name,
      rows: own.length,
      counts: Object.fromEntries(STATUSES.map((status) => [status, count(status)])) as Chapter['counts'],
      missing: own.filter((row) => !borneOut.includes(row)).map(({ id }) => id),
    }
  })
  const broken = rows.filter(({ status, note }) => status === 'tested' && note !== '')
  return { chapters, broken, problems }
}
