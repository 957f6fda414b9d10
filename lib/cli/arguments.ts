// The arguments of a sub-command: what is unknown is named with what was meant, and what is wrong is a UsageError.

import { type ParseArgsConfig, parseArgs } from 'node:util'
import { InvalidOptionError } from '../errors.ts'
import { nearest } from '../nearest.ts'
import { UsageError } from './command.ts'

/** Node.js names an unknown option too, but not what was meant. @throws {UsageError} */
export function assertKnown(
  args: readonly string[],
  known: NonNullable<ParseArgsConfig['options']>,
  usage: string,
): void {
  const { tokens } = parseArgs({ args: [...args], options: known, strict: false, tokens: true })
  for (const token of tokens) {
    if (token.kind !== 'option' || Object.hasOwn(known, token.name)) continue
    const near = nearest(token.name, Object.keys(known))
    const hint = near === undefined ? '' : `: did you mean '--${near}'?`
    throw new UsageError(`unknown option '${token.rawName}'${hint}`, usage)
  }
}

/** What `parse` returns; what it throws of a wrong word is a {@link UsageError}. */
export function withUsage<T>(usage: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (error instanceof InvalidOptionError) throw new UsageError(`--${error.message}`, usage, error)
    if (code.startsWith('ERR_PARSE_ARGS_')) throw new UsageError((error as Error).message, usage, error)
    throw error
  }
}
