// Checks of options, made before anything is opened.

import { InvalidOptionError } from './errors.ts'
import { nearest } from './nearest.ts'

/** An options object whose keys have been checked, its values not yet. */
export type Unchecked = Readonly<Record<string, unknown>>

/**
 * Checks that `value` is an object with no other keys than `known`. `path` is its place among the options, '' at the top.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_UNKNOWN`
 */
export function checkObject(value: unknown, known: readonly string[], path = ''): Unchecked {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', path || 'options', `must be an object, not ${describe(value)}`)
  }
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue
    const option = path === '' ? key : `${path}.${key}`
    throw unknownOption(option, key, known)
  }
  return value as Unchecked
}

/** What nobody knows, with what was probably meant, or everything that is known. */
export function unknownOption(path: string, word: string, known: readonly string[]): InvalidOptionError {
  const near = nearest(word, known)
  return new InvalidOptionError('ERR_OPTION_UNKNOWN', path, 'there is no such option', {
    hint: near === undefined ? `Known here: ${known.join(', ')}.` : `Did you mean '${near}'?`,
  })
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export function checkInteger(value: unknown, option: string, least: number, most: number, fallback?: number): number {
  if (value === undefined && fallback !== undefined) return fallback
  if (typeof value !== 'number') {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be a number, not ${describe(value)}`)
  }
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be an integer in ${least}..${most}, not ${value}`)
  }
  return value
}

/** A power of two. @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export function checkPowerOfTwo(
  value: unknown,
  option: string,
  least: number,
  most: number,
  fallback?: number,
): number {
  const number = checkInteger(value, option, least, most, fallback)
  if (number < 1 || 2 ** Math.round(Math.log2(number)) !== number) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be a power of two, not ${number}`)
  }
  return number
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE` */
export function checkBigInt(value: unknown, option: string): bigint {
  if (typeof value === 'bigint') return value
  throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be a bigint, not ${describe(value)}`)
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE` */
export function checkBoolean(value: unknown, option: string): boolean {
  if (typeof value === 'boolean') return value
  throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be a boolean, not ${describe(value)}`)
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE` */
export function checkString(value: unknown, option: string, fallback?: string): string {
  if (value === undefined && fallback !== undefined) return fallback
  if (typeof value === 'string') return value
  throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be a string, not ${describe(value)}`)
}

function describe(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'an array' : typeof value
}
