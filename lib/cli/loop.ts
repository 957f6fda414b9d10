// `vhost-net loop`: the loop between a driver in this process and a tap, through vhost-net, shown to work.

import { setMaxListeners } from 'node:events'
import type { Command } from './command.ts'
import { interruptible } from './interrupt.ts'
import { type LoopOptions, parseOptions, usage } from './loop/options.ts'
import { paintFor } from './loop/paint.ts'
import { withProgress } from './loop/progress.ts'
import { type Observer, runLoop } from './loop/run.ts'
import { headLine, pingLine, resultLines } from './loop/table.ts'

/** Tells what happens on `stream`; the progress of the bulk traffic always goes to stderr. */
function observerFor(stream: NodeJS.WriteStream): Observer {
  const tell = (line: string) => stream.write(`${line}\n`)
  return {
    up: (facts) => tell(headLine(facts)),
    pinged: (pair) => tell(pingLine(pair)),
    bulk: (endpoints, operation) => withProgress(process.stderr, endpoints, operation),
  }
}

async function show(options: LoopOptions): Promise<number> {
  const { stdout, stderr } = process
  const scope = new AbortController()
  // Every pair waits on it.
  setMaxListeners(0, scope.signal)
  const observer = observerFor(options.json ? stderr : stdout)
  const result = await interruptible(scope, () => runLoop(options, observer, scope))
  const lines = options.json ? [JSON.stringify(result, null, 2)] : resultLines(result, paintFor(stdout))
  stdout.write(`${lines.join('\n')}\n`)
  return result.verdict.ok ? 0 : 1
}

export const loop: Command = {
  async run(args) {
    const options = parseOptions(args)
    if (options !== undefined) return show(options)
    process.stdout.write(usage)
    return 0
  },
}
