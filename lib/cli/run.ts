// `vhost-net run`: boots a guest with its NICs on vhost-net, its console on this terminal.

import { type Command, CommandError } from './command.ts'
import { exitCodeOf } from './exit-code.ts'
import { interruptible } from './interrupt.ts'
import { EXIT_CODES, lacksDevice } from './run/exit-codes.ts'
import { runMachine } from './run/machine.ts'
import { parseOptions, type RunOptions, usage } from './run/options.ts'
import { jsonReporter, textReporter } from './run/report.ts'

async function boot(options: RunOptions): Promise<number> {
  const { stdin, stdout, stderr } = process
  const report = options.json ? jsonReporter(stdout) : textReporter(stdout, stderr, stdin.isTTY)
  const scope = new AbortController()
  try {
    const surroundings = { report, stdin, signal: scope.signal }
    const { end, vcpus } = await interruptible(scope, () => runMachine(options, surroundings))
    const exitCode = EXIT_CODES[end.why]
    report.ended(end, exitCode, vcpus)
    return exitCode
  } catch (error) {
    const failure = lacksDevice(error) ? new CommandError(error, EXIT_CODES.host) : error
    report.failed(error, exitCodeOf(failure))
    throw failure
  }
}

export const run: Command = {
  async run(args) {
    const options = parseOptions(args)
    if (options !== undefined) return boot(options)
    process.stdout.write(usage)
    return 0
  },
}
