// Tap queues and vhost-nets that somebody else opened: taken over where all of it works, left as they were otherwise.

import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync } from 'node:fs'
import { IFF, TUN_F, TUN_SNDBUF_UNLIMITED } from '../../lib/abi/tun.ts'
import { VhostNetBackend, type VhostNetBackendOptions } from '../../lib/backend/index.ts'
import { Driver } from '../../lib/driver/index.ts'
import { InvalidOptionError, SystemCallError } from '../../lib/errors.ts'
import { EventFd } from '../../lib/event/index.ts'
import { Tap, type TapOptions, VhostNet } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { failureOf, features, moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { diffSoon, resources, vhostWorkers } from '../support/resources.ts'
import { runAsNobodyWith } from '../support/run-scenario.ts'
import { soon } from '../support/soon.ts'
import { addTap, ip, tapSettings, withQueue } from '../support/tuntap.ts'

const ifname = 'handed0'

describe('fds handed over', () => {
  let memory: NativeMemory
  let closing: Teardown
  let held: ReturnType<typeof resources>
  const mine = new Set<number>()

  before(() => {
    memory = GuestMemory.allocate({ size: 4 << 20 })
  })
  after(() => memory.close())

  beforeEach(() => {
    held = resources()
    closing = new Teardown()
  })
  afterEach('nothing is left', async () => {
    for (const fd of mine) closing.add(() => closeSync(fd))
    mine.clear()
    closing.run()
    assert.deepEqual(await diffSoon(held), [])
  })

  /** A number that is the test's to close where it is not taken over. */
  const given = (fd: number): number => {
    mine.add(fd)
    return fd
  }
  const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`)
  const tapFd = (options: Partial<TapOptions> = {}): number => given(Tap.open({ ifname, ...options }).detach())
  const vhostFd = (): number => given(VhostNet.open().detach())

  async function take(options: Omit<VhostNetBackendOptions, 'memory'>): Promise<VhostNetBackend> {
    const backend = closing.own(await VhostNetBackend.open({ memory, ...options }))
    for (const fd of [...(options.fds ?? []), ...(options.vhostfds ?? [])]) mine.delete(fd)
    return backend
  }

  async function carries(backend: VhostNetBackend): Promise<void> {
    const { queuePairs } = backend
    const driver = Driver.create({ memory, features, queuePairs, queueSize: 16 })
    try {
      for (const [pair, { rx, tx }] of driver.pairs.entries()) {
        backend.start(pair, { features, rx: rx.vring, tx: tx.vring })
        assert.ok(await moves(driver, pair), `pair ${pair} moves`)
      }
    } finally {
      driver.destroy()
    }
  }

  for (const queuePairs of [1, 3]) {
    for (const [what, withTaps, withVhosts] of [
      ['of a tap and of vhost-net', true, true],
      ['of a tap alone', true, false],
      ['of vhost-net alone', false, true],
    ] as const) {
      it(`${what} carry frames, ${queuePairs} pairs, and are closed with the backend`, async () => {
        const fds = withTaps
          ? Array.from({ length: queuePairs }, () => tapFd({ multiQueue: queuePairs > 1 }))
          : undefined
        const vhostfds = withVhosts ? Array.from({ length: queuePairs }, vhostFd) : undefined
        const backend = await take({ ...(fds ? { fds } : { tap: { ifname } }), ...(vhostfds && { vhostfds }) })
        assert.equal(backend.ifname, ifname)
        assert.equal(backend.queuePairs, queuePairs)
        await carries(backend)
        const { pairs } = backend.inspect()
        assert.deepEqual(
          fds ?? pairs.map((pair) => pair.fds!.tap),
          pairs.map((pair) => pair.fds!.tap),
        )
        assert.deepEqual(
          vhostfds ?? pairs.map((pair) => pair.fds!.vhost),
          pairs.map((pair) => pair.fds!.vhost),
        )
        backend.close()
        for (const fd of [...(fds ?? []), ...(vhostfds ?? [])]) assert.equal(isOpen(fd), false)
      })
    }
  }

  it('of a tap that stays are put back as they were', async () => {
    addTap(ifname, 'vnet_hdr', 'multi_queue')
    closing.add(() => ip('link', 'delete', ifname))
    // Only an open queue shows the send buffer.
    const witness = closing.own(Tap.open({ ifname, multiQueue: true }))
    const fds = [tapFd({ multiQueue: true }), tapFd({ multiQueue: true })]
    witness.setVnetHdrSz(24)
    witness.setOffload(TUN_F.TUN_F_CSUM | TUN_F.TUN_F_TSO4)
    witness.setSndbuf(123_456)
    const before = tapSettings(ifname)
    const backend = await take({ fds })
    await carries(backend)
    assert.equal(witness.getSndbuf(), TUN_SNDBUF_UNLIMITED)
    backend.close()
    assert.deepEqual(tapSettings(ifname), before)
    assert.equal(witness.getSndbuf(), 123_456)
  })

  it('leave the send buffer of other queues alone where theirs is without limit', async () => {
    addTap(ifname, 'vnet_hdr', 'multi_queue')
    closing.add(() => ip('link', 'delete', ifname))
    const other = closing.own(Tap.open({ ifname, multiQueue: true }))
    other.setSndbuf(123_456)
    const backend = await take({ fds: [tapFd({ multiQueue: true })] })
    await carries(backend)
    assert.equal(other.getSndbuf(), 123_456)
    backend.close()
    assert.equal(other.getSndbuf(), 123_456)
  })

  it('are left as they were whichever step of opening fails', async () => {
    addTap(ifname, 'vnet_hdr', 'multi_queue')
    closing.add(() => ip('link', 'delete', ifname))
    const fds = [tapFd({ multiQueue: true }), tapFd({ multiQueue: true })]
    const vhostfds = [vhostFd(), vhostFd()]
    const tap = () => withQueue(ifname, (queue) => [queue.getVnetHdrSz(), queue.getVnetLe()])
    const before = tap()
    const workers = vhostWorkers().length
    for (let n = 1; ; n++) {
      const { error, injected } = await recording(async (record) => {
        record.fail(n)
        const error = await failureOf(() => take({ fds, vhostfds }))
        return { error, injected: record.injected }
      })
      if (injected === undefined) {
        assert.equal(error, undefined)
        assert.ok(n > 20, `opening took ${n - 1} steps`)
        return
      }
      assert.ok(error instanceof SystemCallError, `${error}`)
      for (const fd of [...fds, ...vhostfds]) assert.ok(isOpen(fd), `fd ${fd} after step ${n}`)
      assert.deepEqual(tap(), before)
      // Without an owner again, so that the next attempt can take it.
      await soon(`the workers end, as ${injected.syscall} failed`, () => vhostWorkers().length === workers)
    }
  })

  describe('are refused, and stay open', () => {
    const refuses = async (
      options: Omit<VhostNetBackendOptions, 'memory'>,
      problem: RegExp,
      type: typeof InvalidOptionError | typeof SystemCallError = InvalidOptionError,
    ): Promise<void> => {
      const error = await failureOf(() => take(options))
      assert.ok(error instanceof type, `${error}`)
      assert.match(error.message, problem)
      for (const fd of [...(options.fds ?? []), ...(options.vhostfds ?? [])]) assert.ok(isOpen(fd))
    }
    const attached = (flags: number, name = ifname): number => given(Tap.attach(name, flags).detach())
    const { IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE } = IFF

    it('where one is no tap', () => {
      const fd = given(EventFd.create().detach())
      return refuses({ fds: [fd] }, /^TUNGETIFF on tap fd \d+: ENOTTY/, SystemCallError)
    })

    it('where one is a tun', () =>
      refuses({ fds: [attached(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)] }, /^fds\[0\]: 'handed0' is a tun device/))

    it('where one has no virtio header', () =>
      refuses({ fds: [attached(IFF_TAP | IFF_NO_PI)] }, /^fds\[0\]: 'handed0' has no virtio header/))

    it('where one has packet information', () =>
      refuses({ fds: [attached(IFF_TAP | IFF_VNET_HDR)] }, /^fds\[0\]: 'handed0' has packet information/))

    it('where one is of another tap', () => {
      const flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
      closing.own(Tap.attach(ifname, flags))
      const fds = [attached(flags), attached(flags, 'other0')]
      return refuses({ fds }, /^fds\[1\]: 'other0' is another device than 'handed0' of fds\[0\]/)
    })

    it('where a queue is detached', () => {
      const tap = Tap.open({ ifname, multiQueue: true })
      closing.own(Tap.open({ ifname, multiQueue: true }))
      tap.setQueue(false)
      return refuses({ fds: [given(tap.detach())] }, /^fds\[0\]: 'handed0' has this queue detached/)
    })

    it('where they are more than its queues', () =>
      refuses({ fds: [tapFd(), vhostFd()] }, /^fds\[0\]: 'handed0' has a single queue, 2 fds were handed over/))

    it('where one is no vhost-net, with what came before it as it was', async () => {
      const workers = vhostWorkers().length
      const fds = [tapFd({ multiQueue: true }), tapFd({ multiQueue: true })]
      const vhostfds = [vhostFd(), given(openSync('/dev/null', 'r+'))]
      await refuses({ fds, vhostfds }, /^vhostfds\[1\]: fd \d+ is not of \/dev\/vhost-net/)
      await soon('the worker ends', () => vhostWorkers().length === workers)
    })

    it('where one has an owner, which it keeps', async () => {
      const vhost = closing.own(VhostNet.open())
      vhost.setOwner()
      await refuses(
        { tap: { ifname }, vhostfds: [vhost.fd] },
        /^VHOST_SET_OWNER on .*EBUSY.*\n.*an fd of its own/,
        SystemCallError,
      )
      vhost.setVringNum(0, 16)
    })
  })

  for (const queuePairs of [1, 2]) {
    it(`serve a process that may open nothing itself, ${queuePairs} pairs`, async () => {
      const fds = Array.from({ length: queuePairs }, () => tapFd({ multiQueue: queuePairs > 1 }))
      const vhostfds = Array.from({ length: queuePairs }, vhostFd)
      const { status, output, stderr } = await runAsNobodyWith(
        [...fds, ...vhostfds],
        'use-handed-fds',
        ifname,
        `${queuePairs}`,
      )
      assert.equal(status, 0, stderr)
      const { alone, ...rest } = output as { alone: { code: string }[] }
      assert.deepEqual(rest, { ifname, uid: 65534, moved: Array(queuePairs).fill(true) })
      for (const { code } of alone) assert.match(code, /^(EACCES|EPERM)$/)
    })
  }
})
