// A NIC that runs gets another tap: its guest's rings go on where they stood, and what cannot be is refused before anything
// has changed.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { constants } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { interpose } from '../../lib/binding/index.ts'
import { Burst } from '../../lib/driver/index.ts'
import {
  FeatureNegotiationError,
  InvalidOptionError,
  StateError,
  SystemCallError,
  type VhostNetError,
} from '../../lib/errors.ts'
import { ethtoolFeatures, Tap } from '../../lib/host/index.ts'
import { bringUp, closeAll, failureOf, type Given, moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { sendFrames, setUpHost } from '../support/host-frames.ts'
import { KernelNic, MAC } from '../support/kernel-nic.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { networkDevices } from '../support/resources.ts'
import { soon } from '../support/soon.ts'
import { addTap, ip, ipState, sysfs, tapSettings } from '../support/tuntap.ts'

const ifname = 'vns0'
const other = 'vns1'
const OTHER_MAC = '52:54:00:aa:bb:cc'
const PAIRS = 2

const exists = (name: string): boolean => networkDevices().some((device) => device.startsWith(`${name} `))
const toTap = (name: string) => ({ tap: { ifname: name } })

describe('a NIC that gets another tap', () => {
  const closing = leavesNothing()
  let given: Given = {}

  beforeEach(() => {
    given = {}
    closing.add(() => assert.deepEqual(closeAll(given), []))
  })

  /** With its driver up, all pairs in use, and frames passing. */
  async function machine(options: { queuePairs?: number; host_mtu?: number } = {}): Promise<KernelNic> {
    const { queuePairs = PAIRS } = options
    const made = await KernelNic.open({ ifname, queuePairs, ...options })
    closing.add(() => made[Symbol.dispose]())
    made.up()
    if (queuePairs > 1) assert.ok(await made.command(4, 0, queuePairs, 0))
    setUpHost(ifname)
    return made
  }

  /** A tap that an administrator made. */
  function persistent(name: string, ...options: string[]): void {
    addTap(name, ...options)
    closing.add(() => {
      if (exists(name)) ip('link', 'delete', name)
    })
  }

  /** Frames pass both ways between the guest and this tap, on every pair. */
  async function passes(made: KernelNic, name: string, pairs = PAIRS): Promise<void> {
    assert.equal(made.nic.backend.ifname, name)
    for (let pair = 0; pair < pairs; pair++) {
      const before = Number(sysfs(name, 'statistics/rx_packets'))
      assert.ok(await moves(made.driver, pair), `pair ${pair} moves`)
      await soon('a frame at the tap', () => Number(sysfs(name, 'statistics/rx_packets')) > before)
    }
    await sendFrames(name, MAC)
    const received = (): boolean =>
      Array.from({ length: pairs }, (_, i) => made.receive(i))
        .flat()
        .includes(MAC)
    await soon('a frame at the guest', received)
  }

  it('has frames pass on it both ways, with rings that go on where they stood, and the one before is gone', async () => {
    const made = await machine()
    await passes(made, ifname)
    await made.nic.swapTap(toTap(other))
    assert.equal(exists(ifname), false)
    setUpHost(other)
    await passes(made, other)
    assert.deepEqual(made.nic.inspect().fault, null)
    const { pairs } = made.nic.backend.inspect()
    assert.deepEqual(
      pairs.map(({ tap }) => tap),
      Array(PAIRS).fill({ vnetHdrSz: VIRTIO_NET_HDR_SIZE, sndbuf: 0x7fffffff }),
    )
  })

  it('stops each ring, starts it on the other tap where it stood, and signals both of its ends', async () => {
    const { backend } = await bringUp(given, { ifname })
    const calls = await recording(async (record) => {
      await backend.swapTap(toTap(other))
      return record.calls
    })
    const steps = calls.map(({ name, args }) => (/^vhost/.test(name) ? [name, args[1], args[2] !== null] : [name]))
    const first = calls.findIndex(({ name }) => name === 'vhostNetSetBackend')
    assert.deepEqual(
      steps.slice(first, first + 12),
      [0, 1].flatMap((ring) => [
        ['vhostNetSetBackend', ring, false],
        ['eventfdRead'],
        ['vhostGetVringBase', ring, true],
        ['vhostNetSetBackend', ring, true],
        ['eventfdWrite'],
        ['eventfdWrite'],
      ]),
    )
    const setUp = calls.slice(0, first).filter(({ name }) => /^tunSet(VnetHdrSz|VnetLe|Offload)$/.test(name))
    assert.deepEqual(
      setUp.slice(-3).map(({ name }) => name),
      ['tunSetVnetHdrSz', 'tunSetVnetLe', 'tunSetOffload'],
    )
  })

  it('takes over offloads, filter, MTU and open queues, and its guest hears of its link', async () => {
    const made = await machine({ host_mtu: 1400 })
    const offloads = (name: string): unknown => {
      const features = ethtoolFeatures(name)
      return Object.fromEntries(Object.entries(features).filter(([key]) => key.startsWith('tx-')))
    }
    assert.ok(await made.command(0, 0, 0))
    assert.ok(await made.command(5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0))
    const before = offloads(ifname)
    const link = (): boolean => made.nic.inspect().link.up
    await soon('link', link)
    await made.nic.swapTap(toTap(other))
    assert.deepEqual(offloads(other), before)
    assert.equal(sysfs(other, 'mtu'), '1400')
    assert.deepEqual(made.nic.backend.inspect().rxFilter, { mode: 'exact', why: null })
    assert.deepEqual(
      made.nic.backend.inspect().pairs.map(({ attached }) => attached),
      [true, true],
    )
    assert.equal(link(), false, 'a tap that was just created is switched off')
    setUpHost(other)
    await soon('link again', link)
    await sendFrames(other, OTHER_MAC, MAC)
    const received: string[] = []
    await soon('its frame', () => {
      received.push(...[0, 1].flatMap((pair) => made.receive(pair)))
      return received.includes(MAC)
    })
    assert.equal(received.includes(OTHER_MAC), false, 'what is for others is filtered')
    ip('link', 'set', other, 'down')
    await soon('no link', () => !link())
  })

  it('leaves a tap of somebody else’s as it was, and goes back to it', async () => {
    persistent(other, 'multi_queue', 'pi')
    const made = await machine()
    const before = { ...tapSettings(other), ip: ipState(other) }
    await made.nic.swapTap(toTap(other))
    assert.notEqual(sysfs(other, 'tun_flags'), before.flags)
    await made.nic.swapTap(toTap(ifname))
    assert.deepEqual({ ...tapSettings(other), ip: ipState(other) }, before)
    setUpHost(ifname)
    await passes(made, ifname)
  })

  it('takes fds that are handed over, and closes those before', async () => {
    const made = await machine()
    for (const name of [other, 'vns2']) {
      const taps = Array.from({ length: PAIRS }, () => Tap.open({ ifname: name, multiQueue: true }))
      const fds = taps.map((tap) => tap.detach())
      const before = made.nic.backend.inspect().pairs.map(({ fds }) => fds!.tap)
      await made.nic.swapTap({ fds })
      assert.deepEqual(
        made.nic.backend.inspect().pairs.map(({ fds }) => fds!.tap),
        fds,
      )
      for (const fd of before) assert.throws(() => Tap.fromFd(fd), { code: /EBADF|ENOTTY/ })
    }
    assert.equal(exists(other), false)
    setUpHost('vns2')
    await passes(made, 'vns2')
  })

  it('does so again and again, the one asked for last at the end', async () => {
    const made = await machine()
    const names = [other, 'vns2', 'vns3']
    await Promise.all(names.map((name) => made.nic.swapTap(toTap(name))))
    assert.deepEqual(names.filter(exists), ['vns3'])
    setUpHost('vns3')
    await passes(made, 'vns3')
  })

  describe('is refused, with frames passing as before,', () => {
    const refused = async (
      made: KernelNic,
      options: Parameters<typeof made.nic.swapTap>[0],
      type: abstract new (...args: never[]) => VhostNetError,
      problem: RegExp,
    ): Promise<void> => {
      const error = await failureOf(() => made.nic.swapTap(options))
      assert.ok(error instanceof type, `${error}`)
      assert.match(error.message, problem)
      assert.equal(made.nic.backend.ifname, ifname)
      await passes(made, ifname)
      assert.equal(made.nic.inspect().fault, null)
    }

    it('where it is asked for in the wrong way', async () => {
      const made = await machine()
      for (const options of [undefined, {}, { tap: {} }, { ifname: other }, { fds: [1.5, 2] }, { fds: [3, 3] }]) {
        await refused(made, options as never, InvalidOptionError, /./)
      }
      await refused(made, { fds: [1] }, InvalidOptionError, /has 1 fds for 2 queue pairs/)
    })

    it('where it is the tap that it has', async () => {
      const made = await machine()
      await refused(made, toTap(ifname), InvalidOptionError, /'vns0' is the tap that it has/)
      const taps = Array.from({ length: PAIRS }, () => closing.own(Tap.open({ ifname, multiQueue: true })))
      for (const tap of taps) tap.setQueue(false)
      const fds = taps.map(({ fd }) => fd)
      await refused(made, { fds }, InvalidOptionError, /^fds: 'vns0' is the tap that it has/)
      for (const tap of taps) assert.equal(tap.getIff().name, ifname)
    })

    it('where the other tap has too few queues', async () => {
      const made = await machine()
      persistent(other, 'vnet_hdr')
      const before = tapSettings(other)
      await refused(made, toTap(other), InvalidOptionError, /'vns1' has a single queue, 2 queue pairs/)
      assert.deepEqual(tapSettings(other), before)
    })

    it('where it has no virtio header, and cannot get one', async () => {
      const made = await machine()
      persistent(other, 'multi_queue')
      closing.own(Tap.attach(other, Number(sysfs(other, 'tun_flags')) & ~0x800))
      await refused(made, toTap(other), InvalidOptionError, /'vns1' is in use without vnet_hdr/)
      const taps = Array.from({ length: PAIRS }, () =>
        closing.own(Tap.open({ ifname: 'vns2', multiQueue: true, vnetHdr: false })),
      )
      await refused(made, { fds: taps.map(({ fd }) => fd) }, InvalidOptionError, /'vns2' has no virtio header/)
      for (const tap of taps) assert.equal(tap.getIff().name, 'vns2')
    })

    it('where its virtio header has another length', async () => {
      const made = await machine()
      // Somebody else who is attached to it sets another one.
      const remove = interpose((real) => ({ ...real, tunSetVnetHdrSz: (fd) => real.tunSetVnetHdrSz(fd, 10) }))
      const error = await failureOf(() => made.nic.swapTap(toTap(other))).finally(remove)
      assert.ok(error instanceof FeatureNegotiationError, `${error}`)
      assert.match(error.message, /vns1 has 10 bytes of virtio header, 12 were agreed on/)
      await passes(made, ifname)
      assert.equal(exists(other), false)
    })

    it('where its kernel lacks an offload that the guest was offered', async () => {
      const made = await machine()
      await recording(async (record) => {
        const uso = 0x60
        record.failWhen(
          ({ name, args }) => name === 'tunSetOffload' && ((args[1] as number) & uso) !== 0,
          constants.errno.EINVAL,
        )
        const error = await failureOf(() => made.nic.swapTap(toTap(other)))
        // Before 6.2 no tap has them, and none was offered.
        if (error === undefined) assert.ok((made.nic.backend.features & (1n << 54n)) === 0n)
        else assert.ok(error instanceof FeatureNegotiationError && /GUEST_USO4/.test(error.message), `${error}`)
      })
      if (made.nic.backend.ifname === other) setUpHost(other)
      await passes(made, made.nic.backend.ifname)
    })

    it('where it is closed, before or meanwhile', async () => {
      const made = await machine()
      const swap = failureOf(() => made.nic.swapTap(toTap(other)))
      await soon('the new tap', () => exists(other))
      made[Symbol.dispose]()
      const error = await swap
      assert.ok(error instanceof StateError && error.code === 'ERR_CLOSED', `${error}`)
      await assert.rejects(() => made.nic.swapTap(toTap(other)), { code: 'ERR_CLOSED' })
      assert.equal(exists(other), false)
    })
  })

  it('is as it was whichever step of going over fails, and leaves nothing of the other tap', async () => {
    // Without a device, which would have steps of its own.
    const { backend, driver } = await bringUp(given, { ifname, queuePairs: PAIRS })
    closing.own(backend.watchLink(() => undefined))
    backend.setRxFilter({ promiscuous: false, allMulticast: true, unicast: [MAC], multicast: [] })
    const allMove = async (why: string): Promise<void> => {
      for (let pair = 0; pair < PAIRS; pair++) assert.ok(await moves(driver, pair), `${why}: pair ${pair} moves`)
    }
    const files = (): number => readdirSync('/proc/self/fd').length
    const before = files()
    let n = 1
    for (; ; n++) {
      const { error, injected } = await recording(async (record) => {
        let steps = 0
        record.failWhen((call) => {
          // Until rings go over, the event loop serves the driver meanwhile.
          const others = ['eventfdRead', 'eventfdWrite', 'pollerRearm'].includes(call.name)
          const ours = !others || record.calls.some(({ name }) => name === 'vhostNetSetBackend')
          return ours && !call.release && ++steps === n
        })
        const error = await failureOf(() => backend.swapTap(toTap(other)))
        return { error, injected: record.injected }
      })
      if (injected === undefined) {
        assert.equal(error, undefined)
        break
      }
      const step = `step ${n}, ${injected.syscall}`
      if (backend.ifname === other) {
        // News of the taps, which are asked for again, or what is put back on the one before.
        assert.match(injected.syscall, error === undefined ? /^recv$/ : /^TUNSETTXFILTER$/)
        assert.equal(exists(ifname), false)
        await backend.swapTap(toTap(ifname))
        assert.equal(exists(other), false)
        continue
      }
      assert.ok(error instanceof SystemCallError, `${step}: ${error}`)
      assert.equal(error.cause, injected)
      assert.equal(backend.ifname, ifname)
      assert.equal(exists(other), false, step)
      assert.equal(files(), before, step)
      await allMove(step)
    }
    assert.ok(n > 50, `it took ${n - 1} steps`)
    assert.equal(exists(ifname), false)
    await allMove('at the end')
  })

  it('has gone over where it is only closing the one before that fails, and whoever asked for it hears of that', async () => {
    const made = await machine()
    await recording(async (record) => {
      record.failWhen(
        ({ name }) => name === 'closeFd' && record.calls.some((call) => call.name === 'vhostNetSetBackend'),
      )
      const error = await failureOf(() => made.nic.swapTap(toTap(other)))
      assert.ok(error instanceof AggregateError, `${error}`)
      for (const each of error.errors) assert.equal(each.syscall, 'close')
    })
    assert.equal(exists(ifname), false)
    setUpHost(other)
    await passes(made, other)
  })

  it('has a fault where the kernel takes a ring neither over nor back, and works again after a reset, on either', async () => {
    const made = await machine()
    await recording(async (record) => {
      record.failWhen(({ name, args }) => name === 'vhostNetSetBackend' && args[1] === 1 && args[2] !== null)
      const error = await failureOf(() => made.nic.swapTap(toTap(other)))
      assert.ok(error instanceof AggregateError, `${error}`)
    })
    const { fault } = made.nic.inspect()
    assert.deepEqual([fault?.cause, fault?.queue], ['unknown', 1])
    assert.match(fault!.message, /neither to another tap nor back/)
    assert.equal(made.nic.backend.ifname, ifname)
    made.up()
    assert.ok(await moves(made.driver, 0))
    await made.nic.swapTap(toTap(other))
    assert.ok(await made.command(4, 0, PAIRS, 0))
    setUpHost(other)
    await passes(made, other)
  })

  describe('after its tap was deleted', () => {
    it('has link again, and its rings go on where they stood', async () => {
      const made = await machine()
      const events: string[] = []
      for (const event of ['gone', 'back'] as const) made.nic.backend.on(event, () => events.push(event))
      await passes(made, ifname)
      ip('link', 'delete', ifname)
      const sent = [0, 1].map((pair) => moves(made.driver, pair))
      await soon('gone', () => events.length > 0)
      assert.equal(made.nic.inspect().link.up, false)
      await made.nic.swapTap(toTap(other))
      assert.deepEqual(events, ['gone', 'back'])
      setUpHost(other)
      await soon('link', () => made.nic.inspect().link.up)
      assert.deepEqual(await Promise.all(sent), [true, true], 'what the deleted tap took is sent')
      await passes(made, other)
    })

    it('has all buffers back, as many as its ring has, whether it has noticed or not', async () => {
      for (const noticed of [false, true]) {
        const made = await machine()
        let gone = false
        made.nic.backend.once('gone', () => {
          gone = true
        })
        ip('link', 'delete', ifname)
        const { tx } = made.driver.pairs[1]!
        const burst = new Burst(64)
        const offsets = new Uint32Array(64)
        assert.equal(tx.allocate(offsets), 64)
        for (const offset of offsets) burst.add(offset, VIRTIO_NET_HDR_SIZE + 60)
        assert.equal(tx.send(burst), 64)
        // The kick goes by way of the event loop.
        await setImmediate()
        if (noticed) await soon('gone', () => gone)
        await made.nic.swapTap(toTap(other))
        await tx.drained(AbortSignal.timeout(20_000))
        made[Symbol.dispose]()
      }
    })

    it('may get one of the same name, whether it has noticed or not', async () => {
      const made = await machine()
      ip('link', 'delete', ifname)
      await made.nic.swapTap(toTap(ifname))
      setUpHost(ifname)
      await passes(made, ifname)
      assert.equal(made.nic.inspect().fault, null)
    })

    it('stays without link where the swap fails, and gets it with the next', async () => {
      const made = await machine()
      ip('link', 'delete', ifname)
      await recording(async (record) => {
        record.failWhen(({ name, args }) => name === 'vhostNetSetBackend' && args[1] === 1 && args[2] !== null)
        assert.ok((await failureOf(() => made.nic.swapTap(toTap(other)))) instanceof AggregateError)
      })
      assert.deepEqual([made.nic.inspect().link.up, made.nic.inspect().fault], [false, null])
      assert.equal(made.nic.backend.running(0), false)
      await made.nic.swapTap(toTap(other))
      setUpHost(other)
      await passes(made, other)
    })
  })

  describe('while its guest', () => {
    it('has no link, by setLink: frames pass with the link', async () => {
      const made = await machine()
      made.nic.setLink(false)
      await made.nic.swapTap(toTap(other))
      setUpHost(other)
      assert.equal(made.nic.backend.running(0), false)
      made.nic.setLink(true)
      await passes(made, other)
    })

    it('is held: frames pass when it goes on', async () => {
      const made = await machine()
      made.nic.pause()
      await made.nic.swapTap(toTap(other))
      setUpHost(other)
      const sent = moves(made.driver, 1)
      await sendFrames(other, MAC)
      assert.deepEqual(
        [0, 1].flatMap((pair) => made.receive(pair)),
        [],
      )
      assert.equal(made.driver.pairs[1]!.tx.inFlight, 1)
      made.nic.resume()
      assert.ok(await sent)
      await passes(made, other)
    })

    it('has a device that needs a reset: frames pass after it', async () => {
      const made = await machine()
      made.nic.fault(new Error('a fault'))
      await made.nic.swapTap(toTap(other))
      setUpHost(other)
      assert.equal(made.nic.backend.running(0), false)
      made.up()
      await passes(made, other, 1)
    })

    it('resets the device and sets it up again meanwhile, at any point', async () => {
      const made = await machine()
      const names = [other, ifname]
      for (let round = 0; round < 6; round++) {
        const name = names[round % 2]!
        const swap = made.nic.swapTap(toTap(name))
        if (round >= 2) await soon('the new tap', () => exists(name))
        made.guest.write('VIRTIO_MMIO_STATUS', 0)
        if (round % 3 === 0) made.up()
        await swap
        if (round % 3 !== 0) made.up()
        setUpHost(name)
        await passes(made, name, 1)
      }
    })

    it('asks for more and fewer pairs meanwhile: as many queues are open as it asked for last', async () => {
      const made = await machine()
      const names = [other, ifname]
      for (let round = 0; round < 4; round++) {
        const name = names[round % 2]!
        const pairs = 1 + (round % 2)
        const swap = made.nic.swapTap(toTap(name))
        await soon('the new tap', () => exists(name))
        assert.ok(await made.command(4, 0, pairs, 0))
        await swap
        assert.deepEqual(
          made.nic.backend.inspect().pairs.map(({ attached }) => attached),
          [true, pairs === 2],
        )
        setUpHost(name)
        await passes(made, name, pairs)
      }
    })

    it('has its receive ring reset: it is enabled again on the other tap', async () => {
      const made = await machine()
      made.guest.write('VIRTIO_MMIO_QUEUE_SEL', 2)
      made.guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
      await made.nic.swapTap(toTap(other))
      setUpHost(other)
      assert.deepEqual(
        made.nic.backend.inspect().pairs.map(({ attached }) => attached),
        [true, false],
      )
      assert.ok(await moves(made.driver, 1))
      made.up()
      await passes(made, other, 1)
    })
  })

  it('has one pair and one queue, and goes over as well', async () => {
    const made = await machine({ queuePairs: 1 })
    persistent(other, 'vnet_hdr')
    await made.nic.swapTap(toTap(other))
    setUpHost(other)
    await passes(made, other, 1)
  })
})
