// Handles in processes that end in any way: nothing is left of them.

import assert from 'node:assert/strict'
import { diffSoon, resources } from '../support/resources.ts'
import { type ScenarioResult, startScenario } from '../support/run-scenario.ts'

/** A process takes a second to start. */
const KILLS = Number(process.env.KILLS ?? 6)

describe('handles in a process that ends', () => {
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
  })

  afterEach('nothing is left', async () => assert.deepEqual(await diffSoon(held, 5000), []))

  const run = (name: string, args: string[] = [], execArgv: string[] = []): Promise<ScenarioResult> =>
    startScenario(name, args, execArgv).ended

  const stages = {
    memory: 'with memory',
    eventfds: 'with a watch',
    opened: 'with an idle NIC',
    running: 'with pairs running',
  }
  for (const [stage, what] of Object.entries(stages)) {
    it(`without closing anything leaves nothing: ${what}`, async () => {
      const { status, signal, output, stderr } = await run('end-without-closing', [stage])
      assert.deepEqual({ status, signal, output, stderr }, { status: 0, signal: null, output: 'ends', stderr: '' })
    })
  }

  it('by an uncaught exception leaves nothing', async () => {
    const { status, stderr } = await run('uncaught-exception')
    assert.equal(status, 1)
    assert.match(stderr, /nobody catches this/)
  })

  it('by process.exit() inside a callback of a watch leaves nothing', async () => {
    const { status, signal, stderr } = await run('exit-in-a-callback')
    assert.deepEqual({ status, signal, stderr }, { status: 7, signal: null, stderr: '' })
  })

  it('by SIGKILL while frames pass leaves nothing', async () => {
    const { child, next, ended } = startScenario('send-until-killed', [])
    assert.equal(await next(), 'running')
    child.kill('SIGKILL')
    assert.equal((await ended).signal, 'SIGKILL')
  })

  it(`by SIGKILL at any of its calls to the kernel leaves nothing, at ${KILLS} of them`, async () => {
    const { output } = await run('kill-itself', ['0'])
    const { calls } = output as { calls: number }
    for (let kill = 0; kill < KILLS; kill++) {
      const n = 1 + Math.floor((kill * calls) / KILLS)
      assert.equal((await run('kill-itself', [String(n)])).signal, 'SIGKILL', `at call ${n} of ${calls}`)
      assert.deepEqual(await diffSoon(held, 5000), [], `at call ${n} of ${calls}`)
    }
  })

  it('by SIGKILL to its vhost worker leaves nothing, since that is one of its threads; a kernel thread takes no signal', async () => {
    const { next, ended } = startScenario('kill-its-worker', [])
    const { isThread } = (await next()) as { isThread: boolean }
    const { signal, status, output } = await ended
    const expected = isThread
      ? { signal: 'SIGKILL', status: null, output: { isThread } }
      : { signal: null, status: 0, output: { moves: true } }
    assert.deepEqual({ signal, status, output }, expected)
  })

  it('closes what was collected, and warns of it by name', async () => {
    const { status, output } = await run('collected', [], ['--expose-gc'])
    assert.equal(status, 0)
    assert.deepEqual(output, {
      opened: 4,
      left: 0,
      warnings: [
        'VHOST_HANDLE_LEAK: /dev/vhost-net was collected without close()',
        'VHOST_HANDLE_LEAK: 8192 bytes of guest memory was collected without close()',
        'VHOST_HANDLE_LEAK: a forgotten eventfd was collected without close()',
        'VHOST_HANDLE_LEAK: rtnetlink socket was collected without close()',
        'VHOST_HANDLE_LEAK: tap child0 was collected without close()',
      ],
    })
  })
})
