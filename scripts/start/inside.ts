// `npm start` where it runs.

import { UsageError } from '../../lib/cli/command.ts'
import { exitCodeOf } from '../../lib/cli/exit-code.ts'
import { explain } from '../../lib/cli/explain.ts'
import { interruptible } from '../../lib/cli/interrupt.ts'
import { paintFor } from '../../lib/cli/loop/paint.ts'
import { parseOptions, type StartOptions, usage } from './options.ts'
import { Progress } from './progress.ts'
import { runStart } from './run.ts'
import { resultLines } from './text.ts'

async function show(options: StartOptions): Promise<number> {
  const { stdout, stderr } = process
  const out = options.json ? stderr : stdout
  const scope = new AbortController()
  const surroundings = {
    tell: (...lines: string[]) => void out.write(`${lines.join('\n')}\n`),
    progress: new Progress(stderr),
    signal: scope.signal,
  }
  const report = await interruptible(scope, () => runStart(options, surroundings))
  const lines = options.json ? [JSON.stringify(report, null, 2)] : resultLines(report, paintFor(stdout))
  stdout.write(`${lines.join('\n')}\n`)
  return report.verdict.ok ? 0 : 1
}

try {
  const options = parseOptions(process.argv.slice(2))
  if (options === undefined) process.stdout.write(usage)
  else process.exitCode = await show(options)
} catch (error) {
  process.stderr.write(`start: ${explain(error)}\n${error instanceof UsageError ? `\n${error.usage}` : ''}`)
  process.exitCode = exitCodeOf(error)
}
