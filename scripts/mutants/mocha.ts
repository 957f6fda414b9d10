// One Mocha run as scripts/test.ts has it, without Mocha's command line, which takes seconds in the lab: `mocha.js RUN
// FILE`. Notes in the file each test as it begins and as it ends, so that one in whose middle the process died is known.

import { appendFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import Mocha from 'mocha'
import type { Run, TestEvent } from './plan.ts'

const { EVENT_TEST_BEGIN, EVENT_TEST_PASS, EVENT_TEST_FAIL } = Mocha.Runner.constants

const [text = '', eventsFile = ''] = process.argv.slice(2)
const { root, test, titles } = JSON.parse(text) as Run

const note = (event: TestEvent): void => appendFileSync(eventsFile, `${JSON.stringify(event)}\n`)

class NotingReporter extends Mocha.reporters.Base {
  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options)
    runner.on(EVENT_TEST_BEGIN, (begun) => note({ what: 'begins', title: begun.fullTitle() }))
    runner.on(EVENT_TEST_PASS, (passed) => note({ what: 'passes', title: passed.fullTitle() }))
    // Also that of a hook, whose title is no test's.
    runner.on(EVENT_TEST_FAIL, (failed, error: Error) => {
      note({ what: 'fails', title: failed.fullTitle(), message: error.message })
      // A fault may also keep the process from ending, which says no more than the failure did.
      if (titles.length === 1) process.exit(1)
    })
  }
}

const escaped = titles.map((title) => title.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
const mocha = new Mocha({
  reporter: NotingReporter,
  grep: new RegExp(`^(${escaped.join('|')})$`),
  timeout: test.startsWith('unit/') ? 10_000 : 60_000,
})
const hooks = path.join(root, 'dist/test/support/hooks')
for (const name of readdirSync(hooks).filter((file) => file.endsWith('.js'))) {
  const { mochaHooks } = (await import(pathToFileURL(path.join(hooks, name)).href)) as {
    mochaHooks: Mocha.RootHookObject
  }
  mocha.rootHooks(mochaHooks)
}
mocha.addFile(path.join(root, `dist/test/${test}.test.js`))
await mocha.loadFilesAsync()
mocha.run((failures) => {
  process.exitCode = failures === 0 ? 0 : 1
})
