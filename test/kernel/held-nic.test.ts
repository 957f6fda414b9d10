// A NIC that is held: nothing touches its rings, whatever becomes of its driver and its tap meanwhile, and nothing is lost.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { SystemCallError } from '../../lib/errors.ts'
import { failureOf, moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { sendFrames, setUpHost } from '../support/host-frames.ts'
import { KernelNic, MAC } from '../support/kernel-nic.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { soon } from '../support/soon.ts'
import { ip } from '../support/tuntap.ts'

const ifname = 'vnh0'
const PAIRS = 2

describe('a NIC that is held', () => {
  const closing = leavesNothing()

  /** With its driver up, all pairs in use, and frames passing. */
  async function machine(): Promise<KernelNic> {
    const made = await KernelNic.open({ ifname, queuePairs: PAIRS })
    closing.add(() => made[Symbol.dispose]())
    setUpHost(ifname)
    made.up()
    assert.ok(await made.command(4, 0, PAIRS, 0))
    return made
  }

  const attached = ({ nic }: KernelNic): boolean[] => nic.backend.inspect().pairs.map((pair) => pair.attached)
  const receivedAll = (made: KernelNic): string[] => [0, 1].flatMap((pair) => made.receive(pair))

  async function passes(made: KernelNic, pairs = PAIRS): Promise<void> {
    for (let pair = 0; pair < pairs; pair++) assert.ok(await moves(made.driver, pair), `pair ${pair} moves`)
    await sendFrames(made.nic.backend.ifname, MAC)
    await soon('a frame at the guest', () => receivedAll(made).includes(MAC))
  }

  /** What would happen by itself had time to. */
  async function turns(): Promise<void> {
    for (let turn = 0; turn < 50; turn++) await setImmediate()
  }

  it('sends, receives and answers nothing, and all of it when it goes on', async () => {
    const made = await machine()
    made.nic.pause()
    const sent = [0, 1].map((pair) => moves(made.driver, pair))
    const answer = made.command(4, 0, 1, 0)
    await sendFrames(ifname, MAC, MAC, MAC)
    await turns()
    assert.deepEqual(receivedAll(made), [])
    assert.deepEqual(
      made.driver.pairs.map(({ tx }) => tx.inFlight),
      [1, 1],
    )
    assert.equal(made.nic.inspect().activePairs, PAIRS)
    made.nic.resume()
    assert.deepEqual(await Promise.all(sent), [true, true])
    assert.equal(await answer, true)
    assert.equal(made.nic.inspect().activePairs, 1)
  })

  it('loses none of the frames that came for any of its pairs', async () => {
    const made = await machine()
    made.nic.pause()
    const macs = Array.from({ length: 20 }, () => MAC)
    await sendFrames(ifname, ...macs)
    made.nic.resume()
    const received: string[] = []
    await soon('all frames', () => {
      received.push(...receivedAll(made))
      return received.length >= macs.length
    })
    assert.deepEqual(received, macs)
  })

  it('signals both ends of each ring when it goes on', async () => {
    const made = await machine()
    const { nic } = made
    nic.pause()
    const signals = await recording((record) => {
      nic.resume()
      return record.calls.filter(({ name }) => name === 'eventfdWrite').length
    })
    assert.equal(signals, 2 * 2 * PAIRS)
  })

  it('may be reset and set up again by its driver, which has frames once it goes on', async () => {
    const made = await machine()
    made.nic.pause()
    made.up()
    assert.deepEqual(attached(made), [true, false], 'no frame goes where nobody reads')
    await sendFrames(ifname, MAC)
    await turns()
    assert.deepEqual(receivedAll(made), [])
    assert.equal(made.nic.inspect().paused, true)
    made.nic.resume()
    await passes(made, 1)
    assert.ok(await made.command(4, 0, PAIRS, 0))
    await passes(made)
  })

  it('may lose its cable and get it back', async () => {
    const made = await machine()
    made.nic.pause()
    made.nic.setLink(false)
    made.nic.setLink(true)
    await turns()
    const sent = moves(made.driver, 1)
    await turns()
    assert.equal(made.driver.pairs[1]!.tx.inFlight, 1)
    made.nic.resume()
    assert.ok(await sent)
    await passes(made)
  })

  it('has no link where its tap was deleted, and goes on with another', async () => {
    const made = await machine()
    made.nic.pause()
    ip('link', 'delete', ifname)
    made.nic.resume()
    assert.deepEqual([made.nic.inspect().link.up, made.nic.inspect().fault], [false, null])
    assert.equal(made.nic.backend.running(0), false)
    await made.nic.swapTap({ tap: { ifname: 'vnh1' } })
    setUpHost('vnh1')
    await passes(made)
  })

  for (const operation of ['pause', 'resume'] as const) {
    it(`is as before whichever step of ${operation} fails`, async () => {
      const made = await machine()
      const { backend } = made.nic
      let n = 1
      for (; ; n++) {
        if (operation === 'resume') backend.pause()
        const { error, injected } = await recording(async (record) => {
          record.fail(n)
          const error = await failureOf(() => backend[operation]())
          return { error, injected: record.injected }
        })
        if (injected === undefined) {
          assert.equal(error, undefined)
          break
        }
        assert.ok(error instanceof SystemCallError, `step ${n}: ${error}`)
        assert.equal(error.cause, injected)
        if (operation === 'resume') {
          const sent = moves(made.driver, 1)
          await turns()
          assert.equal(made.driver.pairs[1]!.tx.inFlight, 1, `step ${n}, ${injected.syscall}: it stands`)
          backend.resume()
          assert.ok(await sent)
        }
        for (let pair = 0; pair < PAIRS; pair++) assert.ok(await moves(made.driver, pair), `step ${n}, pair ${pair}`)
      }
      assert.ok(n > 2 * PAIRS, `it took ${n - 1} steps`)
      backend.resume()
      await passes(made)
    })
  }

  it('is refused once it is closed', async () => {
    const made = await machine()
    made[Symbol.dispose]()
    for (const { pause, resume } of [made.nic, made.nic.backend].map((thing) => ({
      pause: () => thing.pause(),
      resume: () => thing.resume(),
    }))) {
      assert.throws(pause, { code: 'ERR_CLOSED' })
      assert.throws(resume, { code: 'ERR_CLOSED' })
    }
  })
})
