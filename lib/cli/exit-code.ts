// The exit code of a command that failed.

import { InvalidOptionError, PlugError } from '../errors.ts'
import { CommandError, UsageError } from './command.ts'
import { Interrupted } from './interrupt.ts'

export function exitCodeOf(error: unknown): number {
  if (error instanceof Interrupted || error instanceof CommandError) return error.exitCode
  // A signal may have come amid the plan.
  if (error instanceof PlugError) return exitCodeOf(error.cause)
  return error instanceof UsageError || error instanceof InvalidOptionError ? 2 : 1
}
