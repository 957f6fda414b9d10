// Bring-up, failed at each of its steps in turn: the error names the step, and nothing is left of those before it.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Driver } from '../../lib/driver/index.ts'
import { SystemCallError } from '../../lib/errors.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { bringUp, closeAll, failureOf, features, type Given, moves } from '../support/bring-up.ts'
import { type RecordedCall, type Recording, recording } from '../support/failing-binding.ts'
import { diff, diffSoon, networkDevices, resources } from '../support/resources.ts'

const ifname = 'unwind0'

/** `'VHOST_SET_VRING_NUM 0'`: a call with the index of its ring, or the value of a detaching one. */
function format({ name, syscall, args }: RecordedCall): string {
  if (!/^vhostSetVring|^vhostGetVring|^vhostNetSetBackend/.test(name)) return syscall
  return [syscall, args[1], ...(args[2] === null ? ['-1'] : [])].join(' ')
}

/** The step that fails, so that its place in a long list is found. */
const nth = (n: number, calls: readonly RecordedCall[]): string => `step ${n}, ${format(calls[n - 1]!)}`

const isKernelStep = ({ syscall }: RecordedCall): boolean => /^VHOST_|^TUN/.test(syscall)

/** What a test made; closed after it where a failing assertion kept the test from doing so. */
let given: Given = {}

function closeGiven(): unknown[] {
  const errors = closeAll(given)
  given = {}
  return errors
}

describe('bring-up of queue pairs', () => {
  afterEach(closeGiven)

  for (const queuePairs of [1, 2]) {
    describe(`of ${queuePairs}`, () => {
      let steps: RecordedCall[]

      before('brings everything up once, to learn the steps', async () => {
        steps = await recording(async (record) => {
          await bringUp(given, { ifname, queuePairs })
          const taken = record.steps
          assert.deepEqual(closeGiven(), [])
          return taken
        })
      })

      it('reports each failing step by its name and leaves nothing of those before it', async () => {
        const before = resources()
        let n = 1
        for (; ; n++) {
          const { error, injected, taken } = await recording(async (record: Recording) => {
            record.fail(n)
            const error = await failureOf(() => bringUp(given, { ifname, queuePairs }))
            return { error, injected: record.injected, taken: record.steps }
          })
          if (injected === undefined) {
            assert.equal(error, undefined)
            assert.deepEqual(closeGiven(), [])
            break
          }
          assert.deepEqual(format(taken[n - 1]!), format(steps[n - 1]!))
          const step = nth(n, steps)
          assert.ok(error instanceof SystemCallError, `${step}: ${error}`)
          assert.equal(error.code, 'EIO', step)
          assert.equal(error.syscall, steps[n - 1]!.syscall, step)
          assert.ok(error.message.startsWith(`${error.syscall} on `), `${step}: ${error.message}`)
          assert.equal(error.cause, injected, step)

          const running = [...Array(queuePairs).keys()].filter((pair) => given.backend?.running(pair))
          assert.deepEqual(closeGiven(), [], step)
          assert.deepEqual(await diffSoon(before), [], `left after ${step} failed, with pairs ${running} running`)
        }
        assert.equal(n - 1, steps.length, 'as many steps were failed as a whole bring-up takes')
      })

      it('keeps the pairs before a failing one running, and the failing one able to start', async () => {
        const before = resources()
        const memory = GuestMemory.allocate({ size: 4 << 20 })
        const backend = await VhostNetBackend.open({ memory, queuePairs, tap: { ifname } })
        const driver = Driver.create({ memory, features, queuePairs, queueSize: 16 })
        given = { memory, backend, driver }
        const last = queuePairs - 1
        const start = (pair: number): void => {
          const { rx, tx } = driver.pairs[pair]!
          backend.start(pair, { features, rx: rx.vring, tx: tx.vring })
        }
        for (let pair = 0; pair < last; pair++) start(pair)
        await recording(async (record) => {
          for (let n = 1; ; n++) {
            record.fail(n)
            const error = await failureOf(() => start(last))
            if (record.injected === undefined) {
              assert.equal(error, undefined)
              break
            }
            assert.ok(error instanceof SystemCallError)
            assert.equal(backend.running(last), false)
            for (let pair = 0; pair < last; pair++) assert.equal(backend.running(pair), true)
          }
        })
        for (let pair = 0; pair < queuePairs; pair++) assert.ok(await moves(driver, pair), `pair ${pair} moves`)
        assert.deepEqual(closeGiven(), [])
        assert.deepEqual(await diffSoon(before), [])
      })
    })
  }

  describe('of 1, as the kernel sees it', () => {
    it('opens the tap queue, then vhost-net, and makes the worker before anything runs', async () => {
      await recording(async (record) => {
        const memory = GuestMemory.allocate({ size: 4 << 20 })
        const backend = await VhostNetBackend.open({ memory, tap: { ifname } })
        given = { memory, backend }
        const steps = record.steps.filter((call) => isKernelStep(call) || call.name === 'openDevice').map(format)
        // How many sets of offloads are tried depends on the kernel.
        assert.deepEqual(
          steps.filter((step, i) => step !== 'TUNSETOFFLOAD' || steps[i - 1] !== step),
          [
            'open',
            'TUNSETIFF',
            'TUNSETOFFLOAD',
            'open',
            'VHOST_SET_OWNER',
            'VHOST_GET_FEATURES',
            'VHOST_GET_FEATURES_ARRAY',
          ],
        )
        assert.deepEqual(closeGiven(), [])
      })
    })

    it('is activated in the order of drivers/vhost, and stopped in strict reverse', async () => {
      const memory = GuestMemory.allocate({ size: 4 << 20 })
      const backend = await VhostNetBackend.open({ memory, tap: { ifname } })
      const driver = Driver.create({ memory, features, queueSize: 16 })
      given = { memory, backend, driver }
      const { rx, tx } = driver.pairs[0]!
      await recording(async (record) => {
        backend.start(0, { features, rx: rx.vring, tx: tx.vring })
        assert.deepEqual(record.calls.map(format), [
          'VHOST_SET_FEATURES',
          'VHOST_SET_MEM_TABLE',
          'VHOST_SET_VRING_NUM 0',
          'VHOST_SET_VRING_BASE 0',
          'VHOST_SET_VRING_ADDR 0',
          'VHOST_SET_VRING_KICK 0',
          'VHOST_SET_VRING_CALL 0',
          'read',
          'VHOST_SET_VRING_ERR 0',
          'epoll_create1',
          'epoll_ctl',
          'VHOST_SET_VRING_NUM 1',
          'VHOST_SET_VRING_BASE 1',
          'VHOST_SET_VRING_ADDR 1',
          'VHOST_SET_VRING_KICK 1',
          'VHOST_SET_VRING_CALL 1',
          'read',
          'VHOST_SET_VRING_ERR 1',
          'epoll_ctl',
          'TUNSETVNETHDRSZ',
          'TUNSETVNETLE',
          'TUNSETOFFLOAD',
          'TUNGETVNETHDRSZ',
          'VHOST_NET_SET_BACKEND 0',
          'VHOST_NET_SET_BACKEND 1',
        ])
      })
      await recording(async (record) => {
        backend.stop(0)
        assert.deepEqual(record.calls.map(format), [
          'VHOST_NET_SET_BACKEND 1 -1',
          'VHOST_NET_SET_BACKEND 0 -1',
          'VHOST_GET_VRING_BASE 0',
          'VHOST_GET_VRING_BASE 1',
          'epoll_ctl',
          'VHOST_SET_VRING_ERR 1 -1',
          'VHOST_SET_VRING_CALL 1 -1',
          'VHOST_SET_VRING_KICK 1 -1',
          'epoll_ctl',
          'close',
          'VHOST_SET_VRING_ERR 0 -1',
          'VHOST_SET_VRING_CALL 0 -1',
          'VHOST_SET_VRING_KICK 0 -1',
        ])
      })
      assert.deepEqual(closeGiven(), [])
    })

    it('undoes exactly what was done when a step fails', async () => {
      const memory = GuestMemory.allocate({ size: 4 << 20 })
      const backend = await VhostNetBackend.open({ memory, tap: { ifname } })
      const driver = Driver.create({ memory, features, queueSize: 16 })
      given = { memory, backend, driver }
      const { rx, tx } = driver.pairs[0]!
      await recording(async (record) => {
        // VHOST_SET_VRING_CALL 1
        record.fail(16)
        const error = await failureOf(() => backend.start(0, { features, rx: rx.vring, tx: tx.vring }))
        assert.ok(error instanceof SystemCallError)
        assert.deepEqual(record.calls.slice(15).map(format), [
          'VHOST_SET_VRING_CALL 1',
          'VHOST_SET_VRING_KICK 1 -1',
          'epoll_ctl',
          'close',
          'VHOST_SET_VRING_ERR 0 -1',
          'VHOST_SET_VRING_CALL 0 -1',
          'VHOST_SET_VRING_KICK 0 -1',
        ])
      })
      assert.deepEqual(closeGiven(), [])
    })

    it('holds every fd with close-on-exec', async () => {
      const held = (call: RecordedCall): boolean => call.name === 'openDevice' || call.name === 'eventfdCreate'
      const record = await recording(async (record) => {
        await bringUp(given, { ifname })
        return record
      })
      const ours = readdirSync('/proc/self/fdinfo').filter((fd) => {
        try {
          const target = readlinkSync(`/proc/self/fd/${fd}`)
          // Sockets and pipes that this process was started with are not ours.
          return (
            /vhost-net|net\/tun|\[event(fd|poll)\]/.test(target) || (Number(fd) > 2 && target.startsWith('socket:'))
          )
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
          throw error
        }
      })
      assert.ok(ours.length >= record.steps.filter(held).length)
      for (const fd of ours) {
        const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))
        assert.ok(Number.parseInt(flags![1]!, 8) & 0o2000000, `fd ${fd} has O_CLOEXEC`)
      }
      assert.deepEqual(closeGiven(), [])
    })
  })

  describe('undone while undoing fails too', () => {
    it('runs every further step when one step of closing fails', async () => {
      const before = resources()
      for (let n = 1; ; n++) {
        await bringUp(given, { ifname })
        const { errors, injected, last } = await recording(async (record) => {
          record.fail(n, { of: 'calls' })
          const errors = closeGiven()
          return { errors, injected: record.injected, last: record.calls[n - 1] }
        })
        assert.deepEqual(await diffSoon(before), [], `left after ${last && format(last)} failed while closing`)
        if (injected === undefined) {
          assert.deepEqual(errors, [])
          assert.ok(n > 20, `closing takes more than ${n} calls`)
          return
        }
        assert.equal(errors.length, 1, `${format(last!)} was reported once`)
        assert.equal(rootOf(errors[0]), injected, `${errors[0]}`)
      }
    })

    it('reports the failing step and all failures of undoing it together', async () => {
      const before = resources()
      const memory = GuestMemory.allocate({ size: 4 << 20 })
      const backend = await VhostNetBackend.open({ memory, tap: { ifname } })
      const driver = Driver.create({ memory, features, queueSize: 16 })
      given = { memory, backend, driver }
      const { rx, tx } = driver.pairs[0]!
      await recording(async (record) => {
        // The second backend, and then each of the steps back.
        record.fail(25, { andAfter: true })
        const error = await failureOf(() => backend.start(0, { features, rx: rx.vring, tx: tx.vring }))
        assert.ok(error instanceof AggregateError)
        const [first, further] = error.errors
        assert.ok(first instanceof SystemCallError)
        assert.equal(first.syscall, 'VHOST_NET_SET_BACKEND')
        assert.ok(further instanceof AggregateError)
        assert.deepEqual(
          further.errors.map((each: unknown) => (each instanceof SystemCallError ? each.syscall : `${each}`)),
          [
            'VHOST_NET_SET_BACKEND',
            'VHOST_GET_VRING_BASE',
            'epoll_ctl',
            'VHOST_SET_VRING_ERR',
            'VHOST_SET_VRING_CALL',
            'VHOST_SET_VRING_KICK',
            // Removing the last watch failed, but the poller is closed all the same, which fails as well.
            'close',
            'VHOST_SET_VRING_ERR',
            'VHOST_SET_VRING_CALL',
            'VHOST_SET_VRING_KICK',
          ],
        )
      })
      assert.equal(backend.running(0), false)
      assert.deepEqual(closeGiven(), [])
      assert.deepEqual(await diffSoon(before), [])
    })
  })
})

/** What started a chain of causes, of the first of several errors. */
function rootOf(error: unknown): unknown {
  if (error instanceof AggregateError) return rootOf(error.errors[0])
  return error instanceof Error && error.cause !== undefined ? rootOf(error.cause) : error
}

describe('the measure of what is left', () => {
  afterEach(closeGiven)

  it('sees an fd, a mapping, a worker, a thread and a tap that are not closed', async () => {
    const before = resources()
    const { driver } = await bringUp(given, { ifname })
    // The polling thread gives itself its name, and has it once it has reported something.
    assert.ok(await moves(driver, 0))
    const found = diff(before, resources()).join('\n')
    for (const expected of [
      /^fd \/dev\/vhost-net: 0 before, 1 after$/m,
      /^fd \/dev\/net\/tun: 0 before, 1 after$/m,
      /^fd anon_inode:\[eventfd\]: \d+ before, \d+ after$/m,
      /^fd anon_inode:\[eventpoll\]: \d+ before, \d+ after$/m,
      /^fd socket: \d+ before, \d+ after$/m,
      /^mapping of \/memfd:vhost-net-memory, 4194304 bytes: 0 before, 1 after$/m,
      /^thread vhost-net-poll: 0 before, 1 after$/m,
      new RegExp(`^vhost worker vhost-${process.pid}: 0 before, 1 after$`, 'm'),
      /^network device unwind0 \(\d+, tun\): 0 before, 1 after$/m,
    ]) {
      assert.match(found, expected)
    }
    assert.deepEqual(closeGiven(), [])
    assert.deepEqual(await diffSoon(before), [])
    assert.ok(!networkDevices().some((device) => device.startsWith(ifname)))
  })
})
