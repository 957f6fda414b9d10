// The ways in which the lab itself can fail, each with its own exit code.

/** Exit codes of the lab, chosen where ordinary commands, shells and test runners have none. */
export const exitCodes = {
  notReady: 119,
  usage: 120,
  panic: 121,
  silent: 122,
  died: 123,
  timeout: 124,
} as const

/** What a process that `signal` ended reports: 128 + its number, as in every shell. */
export const signalExitCodes = { SIGHUP: 129, SIGINT: 130, SIGPIPE: 141, SIGTERM: 143 } as const

/** A failure of the lab, as opposed to one of the command that runs in it. */
export class LabError extends Error {
  override readonly name = 'LabError'
  readonly exitCode: number

  constructor(exitCode: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.exitCode = exitCode
  }
}
