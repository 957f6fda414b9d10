// Ctrl-C, SIGTERM and a reader who has gone as the abortion of whatever is awaited, so that everything is unwound before the process ends.

import { constants } from 'node:os'

const signals = ['SIGINT', 'SIGTERM'] as const

/** A signal ended the command, or the pipe it writes to has no reader any more, for which SIGPIPE stands. */
export class Interrupted extends Error {
  /** 128 plus the signal's number, as a shell reports it. */
  readonly exitCode: number

  constructor(signal: (typeof signals)[number] | 'SIGPIPE') {
    super(`interrupted by ${signal}`)
    this.exitCode = 128 + constants.signals[signal]
  }
}

/**
 * Runs `operation`, aborting `scope` with {@link Interrupted} on the first SIGINT or SIGTERM. A second one ends the
 * process at once, by the signal's own default. What is written to a pipe without a reader is dropped from then on.
 */
export async function interruptible<T>(scope: AbortController, operation: () => Promise<T>): Promise<T> {
  const abort = (signal: (typeof signals)[number]): void => {
    for (const name of signals) process.off(name, abort)
    scope.abort(new Interrupted(signal))
  }
  for (const name of signals) process.on(name, abort)
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    scope.abort(new Interrupted('SIGPIPE'))
  })
  try {
    return await operation()
  } finally {
    for (const name of signals) process.off(name, abort)
  }
}
