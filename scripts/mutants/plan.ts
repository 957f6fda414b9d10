// What is to be run, here or in the lab, and what came of it.

/** One Mocha process. */
export interface Run {
  readonly id: string
  /** The tree it runs in. */
  readonly root: string
  /** `'kernel/unwind'` */
  readonly test: string
  /** Full titles of the tests to run, no others. */
  readonly titles: readonly string[]
  /** After so many seconds it is killed. */
  readonly seconds: number
}

export type TestEvent =
  | { readonly what: 'begins' | 'passes'; readonly title: string }
  | { readonly what: 'fails'; readonly title: string; readonly message: string }

export interface RunResult {
  readonly id: string
  readonly events: readonly TestEvent[]
  readonly status: number | null
  readonly signal: string | null
  readonly timedOut: boolean
  readonly seconds: number
  /** The end of what it printed. */
  readonly output: string
}
