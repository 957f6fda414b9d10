// What tests do in a process of its own, since it ends badly or changes the process: `node child-scenarios.js NAME …`.
// Each prints lines of JSON.

import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Driver } from '../../lib/driver/index.ts'
import { VhostNetError } from '../../lib/errors.ts'
import { EventFd, watchReadable } from '../../lib/event/index.ts'
import { RtNetlink, Tap, VhostNet } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { bringUp, closeAll, features, type Given, moves, open, sendForever } from './bring-up.ts'
import { Recording } from './failing-binding.ts'
import { startSenders } from './workers.ts'

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

function describeFailure(body: () => unknown): object {
  try {
    body()
    return { name: 'no error' }
  } catch (error) {
    if (!VhostNetError.is(error)) throw error
    const { name, code, message, hint } = error
    return { name, code, message, hint }
  }
}

/** What was opened and is not closed; the process holds on to it. */
const given: Given = {}
const others: unknown[] = []

/** How far a process got when it ended. */
const stages: Readonly<Record<string, () => unknown>> = {
  memory: () => {
    given.memory = GuestMemory.allocate({ size: 1 << 20 })
  },
  eventfds: () => {
    const event = EventFd.create()
    others.push(
      event,
      watchReadable(event, () => print('never called')),
    )
  },
  opened: () => open(given, { ifname: 'child0', queuePairs: 2 }),
  running: () => bringUp(given, { ifname: 'child0', queuePairs: 2 }),
}

/** Memory on what nothing but it refers to. */
function borrow(kind: string, size: number): { memory: NativeMemory; lent: WeakRef<object> } {
  if (kind === 'buffer') {
    const buffer = new SharedArrayBuffer(size)
    return { memory: GuestMemory.adopt({ regions: [{ guestAddress: 0, buffer }] }), lent: new WeakRef(buffer) }
  }
  // Another memory of this package's stands for one that another addon made.
  const owner = GuestMemory.allocate({ size, name: 'lent' })
  const address = owner.hostAddress(0, size)
  return {
    memory: GuestMemory.adopt({ regions: [{ guestAddress: 0, size, address, owner }] }),
    lent: new WeakRef(owner),
  }
}

const scenarios: Readonly<Record<string, (...args: string[]) => unknown>> = {
  open: (tun) => {
    print({
      vhost: describeFailure(() => VhostNet.open()),
      tap: describeFailure(() => Tap.open({ ifname: 'nobody0', path: tun! })),
    })
  },

  'end-without-closing': async (stage) => {
    await stages[stage!]!()
    print('ends')
  },

  'uncaught-exception': async () => {
    await bringUp(given, { ifname: 'child0' })
    throw new Error('nobody catches this')
  },

  'exit-in-a-callback': async () => {
    await bringUp(given, { ifname: 'child0' })
    const event = EventFd.create()
    watchReadable(event, () => process.exit(7), { keepAlive: true })
    event.signal()
  },

  'send-until-killed': async () => {
    const { driver } = await bringUp(given, { ifname: 'child0' })
    await sendForever(driver, () => print('running'))
  },

  /** At its n-th call to the kernel; how many there are where it is not killed. */
  'kill-itself': async (n) => {
    let left = Number(n)
    const record = new Recording()
    record.failWhen(() => {
      if (--left === 0) process.kill(process.pid, 'SIGKILL')
      return false
    })
    const { driver } = await bringUp(given, { ifname: 'child0', queuePairs: 2 })
    for (let pair = 0; pair < 2; pair++) await moves(driver, pair)
    closeAll(given)
    record.remove()
    print({ calls: record.calls.length })
  },

  'kill-its-worker': async () => {
    const { driver, backend } = await bringUp(given, { ifname: 'child0' })
    assert.ok(await moves(driver, 0))
    const { tid } = backend.inspect().pairs[0]!.worker!
    print({ isThread: existsSync(`/proc/self/task/${tid}`) })
    process.kill(tid, 'SIGKILL')
    print({ moves: await moves(driver, 0) })
    closeAll(given)
  },

  /** Opens a NIC with no file left to open, then with one, and so on, until it works. */
  'few-files': async (ifname) => {
    // Not for the others, which start faster without.
    const { KernelNic } = await import('./kernel-nic.ts')
    // What is loaded at first use is there then.
    const first = await KernelNic.open({ ifname: ifname!, queuePairs: 2 })
    first[Symbol.dispose]()
    const open: number[] = []
    const fill = (): void => {
      try {
        for (;;) open.push(openSync('/dev/null', 'r'))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EMFILE') throw error
      }
    }
    /** How many more could be opened. */
    const room = (): number => {
      const before = open.length
      fill()
      const count = open.length - before
      for (const fd of open.splice(before)) closeSync(fd)
      return count
    }
    const codes: string[] = []
    const left: number[] = []
    fill()
    for (let files = 0; ; files++) {
      try {
        using machine = await KernelNic.open({ ifname: ifname!, queuePairs: 2 })
        machine.up()
        const works = await moves(machine.driver, 0)
        for (const fd of open) closeSync(fd)
        print({ codes, left, works })
        return
      } catch (error) {
        if (!VhostNetError.is(error)) throw error
        codes.push(error.code)
        left.push(room() - files)
        closeSync(open.pop()!)
      }
    }
  },

  'exit-while-workers-send': async (count) => {
    await startSenders(Number(count))
    process.exit(7)
  },

  // The timer alone does not keep the process alive, so it fires only where the watch does.
  'watch-while-idle': (keepAlive) => {
    const happened: string[] = []
    const event = EventFd.create()
    const callback = (): void => {
      happened.push(`called with ${event.read()}`)
      watch.stop()
      event.close()
    }
    const watch = watchReadable(event, callback, { keepAlive: keepAlive === 'true' })
    setTimeout(() => {
      happened.push('signalled')
      event.signal(3n)
    }, 10).unref()
    process.on('beforeExit', () => happened.push('idle'))
    process.on('exit', () => print(happened))
  },

  'throw-in-a-callback': () => {
    const happened: string[] = []
    const both = ['first', 'second'].map((name) => {
      const event = EventFd.create()
      const callback = (): void => {
        watch.stop()
        event.close()
        happened.push(`${name} called`)
        throw new Error(`${name} thrown`)
      }
      const watch = watchReadable(event, callback, { keepAlive: true })
      return event
    })
    process.on('uncaughtException', (error) => happened.push(error.message))
    process.on('exit', () => print(happened))
    for (const event of both) event.signal()
  },

  'use-handed-fds': async (ifname, pairs) => {
    const queuePairs = Number(pairs)
    const fds = Array.from({ length: queuePairs }, (_, pair) => 3 + pair)
    const vhostfds = fds.map((fd) => fd + queuePairs)
    const memory = GuestMemory.allocate({ size: 4 << 20 })
    const backend = await VhostNetBackend.open({ memory, fds, vhostfds })
    const driver = Driver.create({ memory, features, queuePairs, queueSize: 16 })
    const moved: boolean[] = []
    for (const [pair, { rx, tx }] of driver.pairs.entries()) {
      backend.start(pair, { features, rx: rx.vring, tx: tx.vring })
      moved.push(await moves(driver, pair))
    }
    print({
      ifname: backend.ifname,
      uid: process.getuid!(),
      moved,
      alone: [describeFailure(() => VhostNet.open()), describeFailure(() => Tap.open({ ifname: ifname! }))],
    })
    driver.destroy()
    backend.close()
    memory.close()
  },

  // What is lent must stay while a vhost fd can see it, be nothing else left of it, and go afterwards.
  'borrowed-memory': async (kind) => {
    const size = 4 << 20
    const warnings: string[] = []
    process.on('warning', ({ message }) => warnings.push(message))
    const { memory, lent } = borrow(kind!, size)
    const backend = await VhostNetBackend.open({ memory, tap: { ifname: 'child0' } })
    const driver = Driver.create({ memory, features, queueSize: 16 })
    const { rx, tx } = driver.pairs[0]!
    backend.start(0, { features, rx: rx.vring, tx: tx.vring })
    const kept = async (): Promise<boolean> => {
      for (let turn = 0; turn < 20; turn++) {
        globalThis.gc!()
        await setImmediate()
      }
      return lent.deref() !== undefined
    }
    const running = await kept()
    const moved = [await moves(driver, 0)]
    memory.close()
    const memoryClosed = await kept()
    moved.push(await moves(driver, 0))
    driver.destroy()
    const driverClosed = await kept()
    backend.close()
    print({ running, memoryClosed, driverClosed, backendClosed: await kept(), moved, warnings })
  },

  collected: async () => {
    const warnings: string[] = []
    process.on('warning', (warning) => {
      warnings.push(`${(warning as NodeJS.ErrnoException).code}: ${warning.message}`)
    })
    const before = readdirSync('/proc/self/fd').length
    ;(() => {
      EventFd.create('a forgotten eventfd')
      const vhost = VhostNet.open()
      vhost.setOwner()
      Tap.open({ ifname: 'child0' })
      GuestMemory.allocate({ size: 8192 })
      RtNetlink.open()
    })()
    const opened = readdirSync('/proc/self/fd').length - before
    const deadline = Date.now() + 10_000
    while (warnings.length < 5 && Date.now() < deadline) {
      globalThis.gc!()
      await setImmediate()
    }
    print({ opened, left: readdirSync('/proc/self/fd').length - before, warnings: warnings.sort() })
  },
}

const [, , name = '', ...args] = process.argv
const scenario = scenarios[name]
if (scenario === undefined) throw new Error(`there is no scenario '${name}'`)
await scenario(...args)
