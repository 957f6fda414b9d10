// Mocha's usual output, and what came of it as JSON in the file that MOCHA_COUNTS names, for scripts/test.ts.

import { writeFileSync } from 'node:fs'
import Mocha from 'mocha'

const { EVENT_RUN_END, EVENT_TEST_FAIL } = Mocha.Runner.constants

export default class CountingReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options)
    const failures: string[] = []
    runner.on(EVENT_TEST_FAIL, (test, error) => {
      failures.push(`${test.fullTitle()}: ${error instanceof Error ? error.message : String(error)}`)
    })
    runner.once(EVENT_RUN_END, () => {
      const { passes, failures: failed, pending } = this.stats
      const file = process.env.MOCHA_COUNTS
      if (file === undefined) throw new Error('MOCHA_COUNTS must name the file for the counts')
      writeFileSync(file, JSON.stringify({ passed: passes, failed, skipped: pending, failures }))
    })
  }
}
