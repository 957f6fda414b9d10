// EventFd and watchReadable on this machine's kernel: counts are exact, stopping stops, and who keeps the process alive.

import assert from 'node:assert/strict'
import { openSync, readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { EventFd, type Watch, watchReadable } from '../../lib/event/index.ts'
import { threadNames } from '../support/resources.ts'
import { runScenario } from '../support/run-scenario.ts'
import { soon } from '../support/soon.ts'

const pollThreads = (): number => threadNames().filter((name) => name === 'vhost-net-poll').length

const noPollThread = (): Promise<void> => soon('the end of the thread', () => pollThreads() === 0)

describe('EventFd', () => {
  let event: EventFd

  beforeEach(() => {
    event = EventFd.create()
  })

  afterEach(() => event.close())

  it('counts exactly what was signalled since it was read, and reads 0 where nothing was', () => {
    const values = fc.array(fc.bigInt({ min: 0n, max: 2n ** 56n }), { maxLength: 20 })
    fc.assert(
      fc.property(values, (signals) => {
        for (const value of signals) event.signal(value)
        assert.equal(
          event.read(),
          signals.reduce((sum, value) => sum + value, 0n),
        )
        assert.equal(event.read(), 0n)
      }),
    )
  })

  it('adds 1 unless told otherwise', () => {
    event.signal()
    event.signal()
    assert.equal(event.read(), 2n)
  })

  it('holds up to 2⁶⁴ − 2, and refuses what does not fit without waiting', () => {
    event.signal(2n ** 64n - 2n)
    assert.throws(() => event.signal(), { name: 'SystemCallError', code: 'EAGAIN', syscall: 'write' })
    assert.equal(event.read(), 2n ** 64n - 2n)
    for (const value of [-1n, 2n ** 64n]) assert.throws(() => event.signal(value), /64 bits/)
    assert.equal(event.read(), 0n)
  })

  it('is non-blocking and close-on-exec', () => {
    const flags = Number.parseInt(
      /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${event.fd}`, 'utf8'))![1]!,
      8,
    )
    assert.equal(flags & 0o4000, 0o4000)
    assert.equal(flags & 0o2000000, 0o2000000)
  })

  it('says in errors what it is for', () => {
    const named = EventFd.create('pair 3 tx kick')
    named.close()
    assert.throws(() => named.signal(), { name: 'StateError', code: 'ERR_CLOSED', message: 'pair 3 tx kick is closed' })
  })
})

describe('watchReadable', () => {
  const events: EventFd[] = []
  const watches: Watch[] = []

  const create = (): EventFd => {
    const event = EventFd.create()
    events.push(event)
    return event
  }

  const watch = (...args: Parameters<typeof watchReadable>): Watch => {
    const started = watchReadable(...args)
    watches.push(started)
    return started
  }

  /** Resolves when `condition` holds; the test's own timeout is its deadline. */
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await setImmediate()
  }

  /** Lets everything that was signalled before reach its callbacks: this one was signalled last, on the same thread. */
  const settled = async (): Promise<void> => {
    const last = create()
    let called = false
    const watching = watch(last, () => {
      last.read()
      called = true
    })
    last.signal()
    await until(() => called)
    watching.stop()
  }

  afterEach(() => {
    for (const started of watches.splice(0)) started.stop()
    for (const event of events.splice(0)) event.close()
  })

  it('calls back for what was signalled before and after, and no count is lost', async () => {
    const event = create()
    event.signal(5n)
    let total = 0n
    watch(event, () => {
      total += event.read()
    })
    await until(() => total === 5n)
    for (let i = 0; i < 100; i++) {
      event.signal(2n)
      if (i % 10 === 0) await setImmediate()
    }
    await until(() => total === 205n)
    await settled()
    assert.equal(total, 205n)
  })

  it('calls back again and again until the fd is read', async () => {
    const event = create()
    let calls = 0
    watch(event, () => {
      if (++calls === 5) event.read()
    })
    event.signal()
    await until(() => calls === 5)
    await settled()
    assert.equal(calls, 5)
  })

  it('does not call back while nothing is signalled', async () => {
    watch(create(), () => assert.fail('nothing was signalled'))
    await settled()
  })

  it('tells a hundred fds apart', async () => {
    const counts = new Map<number, bigint>()
    const many = Array.from({ length: 100 }, create)
    for (const [i, event] of many.entries()) {
      watch(event, () => counts.set(i, (counts.get(i) ?? 0n) + event.read()))
    }
    for (const [i, event] of many.entries()) event.signal(BigInt(i + 1))
    await until(() => counts.size === 100)
    await settled()
    for (const i of many.keys()) assert.equal(counts.get(i), BigInt(i + 1))
  })

  it('stops at once, for what was ready already as well, and more than once', async () => {
    const event = create()
    const stopped = watch(event, () => assert.fail('it was stopped'))
    event.signal()
    stopped.stop()
    stopped.stop()
    await settled()
    assert.equal(event.read(), 1n)
  })

  it('may be stopped from inside its own callback and from that of another', async () => {
    const [own, other, third] = [create(), create(), create()]
    const called: string[] = []
    const ownWatch = watch(own, () => {
      called.push('own')
      ownWatch.stop()
    })
    const otherWatch = watch(other, () => {
      called.push('other')
      otherWatch.stop()
      thirdWatch.stop()
    })
    const thirdWatch = watch(third, () => {
      called.push('third')
      otherWatch.stop()
      thirdWatch.stop()
    })
    for (const event of [own, other, third]) event.signal()
    await settled()
    assert.equal(called.length, 2)
    assert.ok(called.includes('own'))
  })

  it('can be started again on the same fd after it was stopped', async () => {
    const event = create()
    watch(event, () => assert.fail('it was stopped')).stop()
    let total = 0n
    watch(event, () => {
      total += event.read()
    })
    event.signal(3n)
    await until(() => total === 3n)
  })

  it('refuses a second watch of one fd, and the first goes on', async () => {
    const event = create()
    let total = 0n
    watch(event, () => {
      total += event.read()
    })
    assert.throws(() => watch(event, () => undefined), {
      name: 'SystemCallError',
      code: 'EEXIST',
      syscall: 'epoll_ctl',
    })
    event.signal()
    await until(() => total === 1n)
  })

  it('refuses what cannot be polled and what is closed, and leaves no thread', async () => {
    const file = EventFd.fromFd(openSync(fileURLToPath(import.meta.url), 'r'), 'a file')
    try {
      assert.throws(() => watch(file, () => undefined), {
        name: 'SystemCallError',
        code: 'EPERM',
        message: /^epoll_ctl on a file: /,
        hint: /cannot be polled/,
      })
    } finally {
      file.close()
    }
    assert.throws(() => watch(file, () => undefined), { name: 'StateError', code: 'ERR_CLOSED' })
    await noPollThread()
  })

  it('complains where the fd was closed under it, and still ends', async () => {
    const event = EventFd.create('closed too early')
    const early = watchReadable(event, () => undefined, { keepAlive: true })
    event.close()
    assert.throws(() => early.stop(), { name: 'SystemCallError', code: 'EBADF', hint: /before closing/ })
    early.stop()
    await noPollThread()
  })

  it('has one thread for all watches, while there is one', async () => {
    await noPollThread()
    const two = [watch(create(), () => undefined), watch(create(), () => undefined)]
    two[0]!.stop()
    // It gives itself its name.
    await until(() => pollThreads() > 0)
    assert.equal(pollThreads(), 1)
    two[1]!.stop()
    await noPollThread()
  })

  describe('in a process of its own', () => {
    it('lets the process end where it is not told to keep it alive', async () => {
      const { status, output } = await runScenario('watch-while-idle', 'false')
      assert.equal(status, 0)
      assert.deepEqual(output, ['idle'])
    })

    it('keeps the process alive until it is stopped where it is told to', async () => {
      const { status, output } = await runScenario('watch-while-idle', 'true')
      assert.equal(status, 0)
      assert.deepEqual(output, ['signalled', 'called with 3', 'idle'])
    })

    it('turns what a callback throws into an uncaught exception, after the other callbacks', async () => {
      const { status, output, stderr } = await runScenario('throw-in-a-callback')
      assert.deepEqual({ status, stderr }, { status: 0, stderr: '' })
      assert.deepEqual((output as string[]).toSorted(), [
        'first called',
        'first thrown',
        'second called',
        'second thrown',
      ])
    })
  })
})
