#!/usr/bin/env node
// The `vhost-net` command: picks the sub-command, prints what went wrong, sets the exit code.

import { createRequire } from 'node:module'
import { type Command, UsageError } from './command.ts'
import { exitCodeOf } from './exit-code.ts'
import { explain } from './explain.ts'

interface Listed {
  /** One line for the list of commands. */
  summary: string
  /** Loaded only where it is asked for: what all need takes twice as long to load as what one does. */
  load(): Promise<Command>
}

const commands: Readonly<Record<string, Listed>> = {
  run: {
    summary: 'boots a guest under KVM, with its NICs on vhost-net',
    load: async () => (await import('./run.ts')).run,
  },
  loop: {
    summary: 'moves real frames between a driver in this process and a tap, through vhost-net',
    load: async () => (await import('./loop.ts')).loop,
  },
  plug: {
    summary: 'plugs a tap into a Linux bridge or into Open vSwitch',
    load: async () => (await import('./plug.ts')).plug,
  },
  unplug: {
    summary: 'takes a tap out of the network that it is in',
    load: async () => (await import('./unplug.ts')).unplug,
  },
  ports: {
    summary: 'lists taps and what else is plugged in, and where',
    load: async () => (await import('./ports.ts')).ports,
  },
}

const usage = `Usage: vhost-net COMMAND [options]

Commands:
${Object.entries(commands)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join('\n')}

Options:
  --help      this text; after a command, that command's
  --version   the version of this package

Exit code: 0 success, 1 failure, 2 wrong usage, 130 or 143 after SIGINT or SIGTERM, 141 if nobody reads stdout; 'run' has more.
`

function version(): string {
  // By the package's own name: the path to package.json differs between lib/ and dist/lib/.
  const { version } = createRequire(import.meta.url)('vhost-net/package.json') as { version: string }
  return version
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === '--help' || name === '-h') {
    process.stdout.write(usage)
    return 0
  }
  if (name === '--version') {
    process.stdout.write(`${version()}\n`)
    return 0
  }
  const command = name !== undefined && Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command !== undefined) return (await command.load()).run(args)
  const problem =
    name === undefined
      ? 'a command is missing'
      : name.startsWith('-')
        ? `unknown option '${name}'`
        : `unknown command '${name}'`
  throw new UsageError(problem, usage)
}

function fail(error: unknown): number {
  if (error instanceof UsageError) {
    process.stderr.write(`vhost-net: ${error.message}\n\n${error.usage}`)
  } else {
    process.stderr.write(`vhost-net: ${explain(error)}\n`)
  }
  return exitCodeOf(error)
}

void main(process.argv.slice(2))
  .catch(fail)
  .then((exitCode) => {
    process.exitCode = exitCode
  })
