// Mocha's usual output, and the counts as JSON in the file that MOCHA_COUNTS names, for scripts/test.ts.

import { writeFileSync } from 'node:fs'
import Mocha from 'mocha'

const { EVENT_RUN_END } = Mocha.Runner.constants

export default class CountingReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options)
    runner.once(EVENT_RUN_END, () => {
      const { passes, failures, pending } = this.stats
      const file = process.env.MOCHA_COUNTS
      if (file === undefined) throw new Error('MOCHA_COUNTS must name the file for the counts')
      writeFileSync(file, JSON.stringify({ passed: passes, failed: failures, skipped: pending }))
    })
  }
}
