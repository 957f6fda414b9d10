// Handles in threads of one process, several at once, that end in any way.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { diffSoon, resources } from '../support/resources.ts'
import { runScenario } from '../support/run-scenario.ts'
import { startSenders, startWorkers, WORKS } from '../support/workers.ts'

describe('handles in worker threads', () => {
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
  })

  afterEach('nothing is left', async () => assert.deepEqual(await diffSoon(held, 5000), []))

  const atOnce = 8
  /** Of those that end in the middle of it: enough that the process has several to end at once. */
  const sending = 4

  it('eight at once load the addon, and each opens and closes NICs and watches of its own', async () => {
    const rounds = 2
    await Promise.all(
      startWorkers('close', atOnce, rounds).map(async (worker) => {
        const messages: unknown[] = []
        worker.on('message', (message) => messages.push(message))
        const [status] = await once(worker, 'exit')
        assert.equal(status, 0)
        assert.deepEqual(
          messages,
          Array.from({ length: rounds }, (_, round) => ({ round, ...WORKS })),
        )
      }),
    )
  })

  it('one that ends without closing anything leaves nothing', async () => {
    const [worker] = startWorkers('leave', 1)
    const message = once(worker!, 'message')
    assert.deepEqual(await once(worker!, 'exit'), [0])
    assert.deepEqual(await message, [{ round: 0, ...WORKS }])
  })

  it('four that are terminated while their frames pass leave nothing', async () => {
    const workers = await startSenders(sending)
    assert.deepEqual(
      await Promise.all(workers.map((worker) => worker.terminate())),
      workers.map(() => 1),
    )
  })

  it('four whose process ends by process.exit() while their frames pass leave nothing', async () => {
    const { status, signal, stderr } = await runScenario('exit-while-workers-send', String(sending))
    assert.deepEqual({ status, signal, stderr }, { status: 7, signal: null, stderr: '' })
  })
})
