// Undo steps run in reverse order, each of them, whatever fails.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Teardown } from '../../lib/teardown.ts'

function thrownBy(body: () => void): unknown {
  try {
    body()
    return undefined
  } catch (error) {
    return error
  }
}

describe('Teardown', () => {
  it('runs every step once, newest first, and reports exactly those that failed', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 20 }), (failing) => {
        const teardown = new Teardown()
        const ran: number[] = []
        const errors = failing.map((_, step) => new Error(`step ${step}`))
        for (const [step, fails] of failing.entries()) {
          teardown.add(() => {
            ran.push(step)
            if (fails) throw errors[step]
          })
        }
        const thrown = thrownBy(() => teardown.run())
        assert.deepEqual(ran, [...failing.keys()].reverse())
        const expected = errors.filter((_, step) => failing[step]).reverse()
        if (expected.length < 2) assert.equal(thrown, expected[0])
        else {
          assert.ok(thrown instanceof AggregateError)
          assert.deepEqual(thrown.errors, expected)
          assert.match(thrown.message, new RegExp(`^${expected.length} steps`))
        }
        teardown.run()
        assert.equal(ran.length, failing.length)
      }),
    )
  })

  it('closes what it owns and hands it back', () => {
    const teardown = new Teardown()
    let closed = 0
    const object = { close: () => closed++ }
    assert.equal(teardown.own(object), object)
    assert.equal(closed, 0)
    teardown.run()
    assert.equal(closed, 1)
  })

  it('runs a step that another step adds', () => {
    const teardown = new Teardown()
    const ran: string[] = []
    teardown.add(() => ran.push('outer'))
    teardown.add(() => teardown.add(() => ran.push('added')))
    teardown.run()
    assert.deepEqual(ran, ['added', 'outer'])
  })

  describe('unwinding after a failure', () => {
    const failure = new Error('the step failed')

    it('gives back that failure where undoing succeeds', () => {
      const teardown = new Teardown()
      let ran = false
      teardown.add(() => {
        ran = true
      })
      assert.equal(teardown.unwind(failure), failure)
      assert.ok(ran)
    })

    it('gives back both where undoing fails, too', () => {
      const teardown = new Teardown()
      const further = new Error('undoing failed')
      teardown.add(() => {
        throw further
      })
      const both = teardown.unwind(failure)
      assert.ok(both instanceof AggregateError)
      assert.deepEqual(both.errors, [failure, further])
      assert.match(both.message, /the step failed.*undoing/)
    })
  })
})
