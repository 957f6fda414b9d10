// What a sub-command of `vhost-net` is, and how it says that it was used wrongly.

export interface Command {
  /** @returns the exit code. @throws {UsageError} before anything is opened */
  run(args: readonly string[]): Promise<number>
}

/** The command line was wrong: exit code 2, with the usage. */
export class UsageError extends Error {
  readonly usage: string

  constructor(message: string, usage: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.usage = usage
  }
}

/** A failure that the command has an exit code of its own for. */
export class CommandError extends Error {
  readonly exitCode: number

  constructor(cause: unknown, exitCode: number) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.exitCode = exitCode
  }
}
