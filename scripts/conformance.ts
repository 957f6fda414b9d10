// `npm run conformance`: which rules of the virtio specification the tests show to be kept, as test/conformance lists them.

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { checkConformance, parseRows } from './conformance/check.ts'
import { conformanceTable } from './conformance/table.ts'
import { projectRoot } from './lab/project.ts'
import { titlesOf } from './titles.ts'

const usage = `Usage: npm run conformance -- [options]

Counts the rules of the virtio specification by what is done about them, as the tables of test/conformance have it:

  tested       a unit or kernel test has the rule's id in its title; where its row has a note, the test shows in what the
               host's kernel breaks it, where packets flow without this package
  not-offered  it is of a feature bit, whose name is in the title of a test that it is neither offered nor taken
  n/a          it has no object here
  deviation    it is broken, as the README says
  missing      nothing is done about it yet, or the test is not there

Options:
  --json   the result on stdout as one JSON document
  --help   this text

Exit code: 0 nothing is missing and nothing contradicts itself, 1 else.
`

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const read = (file: string): string => readFileSync(path.join(projectRoot, file), 'utf8')

/** Files of a folder of test/ that end so, as paths below it without that. */
const filesIn = (folder: string, end: string): string[] =>
  readdirSync(path.join(projectRoot, 'test', folder))
    .filter((name) => name.endsWith(end))
    .map((name) => `${folder}/${name.slice(0, -end.length)}`)

const main = async (): Promise<void> => {
  const rows = filesIn('conformance', '.csv').flatMap((table) => parseRows(read(`test/${table}.csv`)))
  const titles: string[] = []
  for (const test of [...filesIn('unit', '.test.ts'), ...filesIn('kernel', '.test.ts')]) {
    titles.push(...(await titlesOf(test)))
  }
  const result = checkConformance(rows, titles, read('README.md'))
  const lines = options.json
    ? [JSON.stringify(result, null, 2)]
    : conformanceTable(result, Math.max(process.stdout.columns ?? 120, 80))
  process.stdout.write(`${lines.join('\n')}\n`)
  if (result.problems.length > 0 || result.chapters.some(({ missing }) => missing.length > 0)) process.exitCode = 1
}

if (options.help) process.stdout.write(usage)
else await main()
