// Turns what the addon throws into a SystemCallError that says what was done to what, and what to do about it.

import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import {
  type ErrorContext,
  InvalidOptionError,
  StateError,
  SystemCallError,
  UnsupportedError,
  VhostNetError,
} from '../errors.ts'

// os.constants lacks EBADFD, which tun answers (asm-generic/errno.h), and has two names for some numbers.
const names = new Map<number, string>([[77, 'EBADFD']])
for (const [name, number] of Object.entries(constants.errno)) {
  if (!names.has(number) || name === 'EOPNOTSUPP') names.set(number, name)
}
names.set(constants.errno.EAGAIN, 'EAGAIN')

/** The UAPI's name of a positive errno: 16 → `'EBUSY'`. */
export function errnoName(number: number): string {
  return names.get(number) ?? `errno ${number}`
}

/** What the user should do, by errno name, or by system call and errno name (`'TUNSETIFF EBUSY'`). */
export type Hints = Readonly<Record<string, string>>

export interface CallSubject {
  /** What the call was made on, for the message: `'tap vnet0'`. */
  subject: string
  context?: ErrorContext
  hints?: Hints
}

interface ArgumentError extends Error {
  code: 'ERR_OPTION_TYPE' | 'ERR_OPTION_RANGE'
  argument: string
}

function isArgumentError(error: Error): error is ArgumentError {
  return 'argument' in error && 'code' in error
}

interface NativeError extends Error {
  errno: number
  syscall: string
}

function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && 'errno' in error && 'syscall' in error
}

/** The addon's own refusals, which no system call made, as errors of this package. */
function misuse(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof VhostNetError || !('code' in error)) return error
  if (error.code === 'ERR_CLOSED') return new StateError('ERR_CLOSED', error.message, { cause: error })
  if (error.code === 'ERR_PLATFORM') return new UnsupportedError('ERR_PLATFORM', error.message, { cause: error })
  if (isArgumentError(error)) return new InvalidOptionError(error.code, error.argument, error.message, { cause: error })
  return error
}

/** Of node:fs, which counts errnos downwards, the kernel's words alone. */
const textOf = ({ errno, message }: NativeError): string =>
  errno < 0 ? (getSystemErrorMap().get(errno)?.[1] ?? message) : message

/**
 * Runs one call into the addon, or one of node:fs.
 * @throws {SystemCallError} where the kernel refused it.
 */
export function systemCall<T>(call: () => T, { subject, context, hints = {} }: CallSubject): T {
  try {
    return call()
  } catch (error) {
    if (!isNativeError(error)) throw misuse(error)
    const errno = -Math.abs(error.errno)
    const code = errnoName(-errno)
    const hint = hints[`${error.syscall} ${code}`] ?? hints[code]
    const message = `${error.syscall} on ${subject}: ${code}, ${textOf(error)}`
    throw new SystemCallError(code, errno, error.syscall, message, {
      ...(hint !== undefined && { hint }),
      ...(context !== undefined && { context }),
      cause: error,
    })
  }
}
