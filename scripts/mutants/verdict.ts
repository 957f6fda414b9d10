// Whether the named test noticed a fault. That it does not pass is not enough: it must have run.

import type { Fault } from '../../test/mutants/fault.ts'
import type { RunResult } from './plan.ts'

export interface Verdict {
  readonly caught: boolean
  /** What the test said, or why the fault counts as one that survived. */
  readonly why: string
}

export const survived = (why: string): Verdict => ({ caught: false, why })

const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1) ?? ''

/** How a test of a run ended; undefined where it did not begin. */
const endOf = ({ events }: RunResult, title: string): 'passed' | 'unfinished' | { failed: string } | undefined => {
  const own = events.filter((event) => event.title === title)
  if (!own.some(({ what }) => what === 'begins')) return undefined
  const failure = own.find((event) => event.what === 'fails')
  if (failure !== undefined) return { failed: failure.message }
  return own.some(({ what }) => what === 'passes') ? 'passed' : 'unfinished'
}

/** Why the test says nothing about any fault; undefined where it passes on the tree without one. */
export const unfit = (result: RunResult, title: string): string | undefined => {
  const end = endOf(result, title)
  if (end === 'passed') return undefined
  if (end === undefined) return `there is no such test (${lastLine(result.output)})`
  return `the test fails without the fault, too: ${end === 'unfinished' ? 'it did not end' : end.failed}`
}

export const judge = ({ title, ends }: Fault, result: RunResult): Verdict => {
  const end = endOf(result, title)
  if (end === undefined) return survived(`the test did not begin: ${lastLine(result.output)}`)
  if (end === 'passed') return survived('the test passes all the same')
  if (end !== 'unfinished') return { caught: true, why: end.failed.split('\n')[0] ?? '' }
  const how = result.timedOut ? 'hangs' : 'crashes'
  const why = result.timedOut ? 'it hangs' : `its process ends with ${result.signal ?? result.status}`
  return how === ends ? { caught: true, why } : survived(`${why}, which the list does not expect`)
}
