// A plan carried out: steps in their order, taken back in the reverse, and what is told where one fails.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { InvalidOptionError, PlugError, SystemCallError } from '../../lib/errors.ts'
import { Applied } from '../../lib/network/apply.ts'
import type { Step } from '../../lib/network/step.ts'

/** What a step of a test does when it is applied, and when it is taken back. */
interface Course {
  apply: 'changes' | 'is so already' | 'fails'
  undo: 'works' | 'fails'
}

const course = fc.record<Course>({
  apply: fc.constantFrom('changes', 'is so already', 'fails'),
  undo: fc.constantFrom('works', 'fails'),
})

/** Steps of those courses, and what happened to them. */
function stepsOf(courses: readonly Course[]): { steps: Step[]; log: string[] } {
  const log: string[] = []
  const steps = courses.map(({ apply, undo }, i) => ({
    text: `step ${i}`,
    apply: async () => {
      log.push(`apply ${i}`)
      if (apply === 'fails') throw new Error(`no ${i}`)
      if (apply === 'is so already') return undefined
      return async () => {
        log.push(`undo ${i}`)
        if (undo === 'fails') throw new Error(`cannot undo ${i}`)
      }
    },
  }))
  return { steps, log }
}

const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail('it did not reject')
}

describe('a plan', () => {
  it('is carried out in order up to what fails, and of what it changed everything is taken back in the reverse', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(course, { maxLength: 12 }), async (courses) => {
        const { steps, log } = stepsOf(courses)
        const failing = courses.findIndex(({ apply }) => apply === 'fails')
        const reached = failing < 0 ? courses.length : failing
        const changed = courses.flatMap(({ apply }, i) => (i < reached && apply === 'changes' ? [i] : []))
        const outcome = {
          undone: changed.filter((i) => courses[i]!.undo === 'works').reverse(),
          notUndone: changed.filter((i) => courses[i]!.undo === 'fails').reverse(),
        }
        const numbers = ({
          undone,
          notUndone,
        }: {
          undone: readonly string[]
          notUndone: readonly { text: string }[]
        }) => ({
          undone: undone.map((text) => Number(text.slice(5))),
          notUndone: notUndone.map(({ text }) => Number(text.slice(5))),
        })
        if (failing < 0) {
          const applied = await Applied.of(steps)
          assert.deepEqual(
            applied.changes,
            changed.map((i) => `step ${i}`),
          )
          assert.deepEqual(numbers(await applied.undo()), outcome)
          assert.deepEqual(applied.changes, [])
          assert.deepEqual(await applied.undo(), { undone: [], notUndone: [] }, 'the second time nothing is left')
        } else {
          const error = await rejection(Applied.of(steps))
          assert.ok(error instanceof PlugError)
          assert.deepEqual([error.step, error.code, error.cause], [`step ${failing}`, 'ERR_PLUG', error.cause])
          assert.equal((error.cause as Error).message, `no ${failing}`)
          assert.deepEqual(numbers(error), outcome)
        }
        const applied = Array.from({ length: failing < 0 ? reached : reached + 1 }, (_, i) => `apply ${i}`)
        assert.deepEqual(log, [...applied, ...[...changed].reverse().map((i) => `undo ${i}`)])
      }),
    )
  })

  it('says what failed with code, context and remedy of its cause, and what it could not take back', async () => {
    const { steps } = stepsOf([
      { apply: 'changes', undo: 'fails' },
      { apply: 'changes', undo: 'works' },
    ])
    const cause = new SystemCallError('ENODEV', -19, 'RTM_SETLINK', 'RTM_SETLINK on br9: ENODEV', {
      hint: 'Make it.',
      context: { ifname: 'br9' },
    })
    const last = { text: "add 'vnet0' to bridge 'br9'", apply: () => Promise.reject(cause) }
    const error = await rejection(Applied.of([...steps, last]))
    assert.ok(error instanceof PlugError)
    assert.deepEqual(
      [error.code, error.hint, error.context, error.cause],
      ['ENODEV', 'Make it.', { ifname: 'br9' }, cause],
    )
    assert.equal(
      error.message,
      "add 'vnet0' to bridge 'br9': RTM_SETLINK on br9: ENODEV\n  not undone: step 0: cannot undo 0\n  Make it.",
    )
    assert.deepEqual(error.undone, ['step 1'])
  })

  it('whose step throws what is no error of this package keeps that as the cause', async () => {
    for (const [thrown, code] of [
      [Object.assign(new Error('gone'), { code: 'ECONNREFUSED' }), 'ECONNREFUSED'],
      [new InvalidOptionError('ERR_OPTION_CONFLICT', 'bridge', 'is no bridge'), 'ERR_OPTION_CONFLICT'],
      ['a word', 'ERR_PLUG'],
    ] as const) {
      const error = await rejection(Applied.of([{ text: 'do it', apply: () => Promise.reject(thrown) }]))
      assert.ok(error instanceof PlugError)
      assert.deepEqual([error.code, error.cause], [code, thrown])
    }
  })

  it('that is aborted takes back what was done, and does not begin what follows', async () => {
    const scope = new AbortController()
    const { steps, log } = stepsOf([
      { apply: 'changes', undo: 'works' },
      { apply: 'changes', undo: 'works' },
    ])
    const reason = new Error('interrupted')
    const aborting: Step = {
      text: 'wait',
      apply: async () => {
        scope.abort(reason)
        return undefined
      },
    }
    const error = await rejection(Applied.of([steps[0]!, aborting, steps[1]!], scope.signal))
    assert.ok(error instanceof PlugError)
    assert.deepEqual([error.cause, error.step, error.undone], [reason, 'step 1', ['step 0']])
    assert.deepEqual(log, ['apply 0', 'undo 0'])
  })
})
