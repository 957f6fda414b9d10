// The exit code of a command that failed.

import { InvalidOptionError } from '../errors.ts'
import { CommandError, UsageError } from './command.ts'
import { Interrupted } from './interrupt.ts'

export function exitCodeOf(error: unknown): number {
  if (error instanceof Interrupted || error instanceof CommandError) return error.exitCode
  return error instanceof UsageError || error instanceof InvalidOptionError ? 2 : 1
}
