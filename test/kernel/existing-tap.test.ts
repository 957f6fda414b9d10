// A tap that an administrator made is used, and afterwards is exactly what it was.

import assert from 'node:assert/strict'
import { TUN_F, TUN_SNDBUF_UNLIMITED } from '../../lib/abi/tun.ts'
import type { RingFault } from '../../lib/backend/index.ts'
import { SystemCallError } from '../../lib/errors.ts'
import { Tap } from '../../lib/host/index.ts'
import { bringUp, closeAll, failureOf, type Given, moves, open, start } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { diffSoon, networkDevices, resources } from '../support/resources.ts'
import { addTap, ip, ipState, sysfs, tapSettings, withQueue } from '../support/tuntap.ts'

const ifname = 'theirs0'

/** `ip tuntap add` options, and how many queue pairs such a tap serves. */
const kinds: readonly (readonly [options: string[], queuePairs: number])[] = [
  [[], 1],
  [['pi'], 1],
  [['vnet_hdr'], 1],
  [['vnet_hdr', 'user', '1000', 'group', '100'], 1],
  [['multi_queue'], 2],
  [['multi_queue', 'pi'], 1],
  [['multi_queue', 'vnet_hdr'], 2],
]

const exists = (name: string): boolean => networkDevices().some((device) => device.startsWith(`${name} `))

describe('a tap made by somebody else', () => {
  let given: Given = {}

  const closeGiven = (): unknown[] => {
    const errors = closeAll(given)
    given = {}
    return errors
  }

  afterEach(() => {
    closeGiven()
    for (const name of [ifname, 'renamed0']) if (exists(name)) ip('link', 'delete', name)
  })

  /** What its owner set it to, all of it other than what a new tap has and than what a backend sets. */
  const setOddly = (): void =>
    withQueue(ifname, (queue) => {
      queue.setVnetHdrSz(24)
      queue.setOffload(TUN_F.TUN_F_CSUM | TUN_F.TUN_F_TSO4)
    })

  for (const [options, queuePairs] of kinds) {
    const name = options.length === 0 ? 'no options' : options.join(' ')

    it(`carries frames and is as it was afterwards: ${name}`, async () => {
      addTap(ifname, ...options)
      setOddly()
      const before = { ...tapSettings(ifname), ip: ipState(ifname) }
      const { backend, driver } = await open(given, { ifname, queuePairs })
      assert.equal(backend.ifname, ifname)
      for (let pair = 0; pair < queuePairs; pair++) start({ backend, driver }, pair)
      ip('link', 'set', ifname, 'up')
      for (let pair = 0; pair < queuePairs; pair++) assert.ok(await moves(driver, pair))
      // IFF_VNET_HDR and IFF_NO_PI, whatever it was made with: without them frames would be misread.
      assert.equal(Number(sysfs(ifname, 'tun_flags')) & 0x5000, 0x5000)
      ip('link', 'set', ifname, 'down')
      assert.deepEqual(closeGiven(), [])
      assert.deepEqual({ ...tapSettings(ifname), ip: ipState(ifname) }, before)
    })
  }

  it('is as it was where no pair was ever started', async () => {
    addTap(ifname, 'pi')
    setOddly()
    const before = { ...tapSettings(ifname), ip: ipState(ifname) }
    await open(given, { ifname })
    assert.notEqual(sysfs(ifname, 'tun_flags'), before.flags)
    assert.deepEqual(closeGiven(), [])
    assert.deepEqual({ ...tapSettings(ifname), ip: ipState(ifname) }, before)
  })

  it('is as it was whichever step of opening or starting fails', async () => {
    addTap(ifname, 'pi')
    setOddly()
    const before = tapSettings(ifname)
    const held = resources()
    for (let n = 1; ; n++) {
      const { error, injected, syscall } = await recording(async (record) => {
        record.fail(n)
        const error = await failureOf(async () => start(await open(given, { ifname })))
        return { error, injected: record.injected, syscall: record.steps[n - 1]?.syscall }
      })
      assert.deepEqual(closeGiven(), [])
      assert.deepEqual(tapSettings(ifname), before, `after step ${n}, ${syscall}, failed`)
      if (injected === undefined) {
        assert.equal(error, undefined)
        assert.ok(n > 40, `opening and starting took ${n - 1} steps`)
        break
      }
      assert.ok(error instanceof SystemCallError, `step ${n}, ${syscall}: ${error}`)
    }
    assert.deepEqual(await diffSoon(held), [])
  })

  it('gets back what can be put back where one of the steps of doing so fails', async () => {
    addTap(ifname, 'pi')
    setOddly()
    const before = tapSettings(ifname)
    start(await open(given, { ifname }))
    const error = await recording(async (record) => {
      const restored = ['tunSetVnetHdrSz', 'tunSetVnetLe', 'tunSetOffload']
      record.failWhen(({ name }) => name === 'tunSetOffload')
      const [error] = closeGiven()
      assert.deepEqual(
        record.calls
          .map(({ name }) => name)
          .filter((each) => restored.includes(each))
          .sort(),
        restored.sort(),
      )
      return error
    })
    assert.ok(error instanceof SystemCallError)
    assert.equal(error.syscall, 'TUNSETOFFLOAD')
    const { offloads: _, ...after } = tapSettings(ifname)
    const { offloads: __, ...expected } = before
    assert.deepEqual(after, expected)
  })

  it('stays up and keeps its address, MAC and MTU', async () => {
    addTap(ifname, 'vnet_hdr')
    ip('address', 'add', '10.78.0.1/24', 'dev', ifname)
    ip('link', 'set', ifname, 'up', 'mtu', '1400', 'txqueuelen', '77')
    const before = { ...tapSettings(ifname), ip: ipState(ifname) }
    const { backend, driver } = await open(given, { ifname })
    start({ backend, driver })
    assert.ok(await moves(driver, 0))
    assert.deepEqual(ipState(ifname), before.ip)
    assert.deepEqual(closeGiven(), [])
    assert.deepEqual({ ...tapSettings(ifname), ip: ipState(ifname) }, before)
  })

  it('can be used again and again', async () => {
    addTap(ifname, 'multi_queue')
    const before = tapSettings(ifname)
    for (let round = 0; round < 3; round++) {
      const { backend, driver } = await open(given, { ifname, queuePairs: 2 })
      start({ backend, driver }, 1)
      assert.ok(await moves(driver, 1))
      assert.deepEqual(closeGiven(), [])
      assert.deepEqual(tapSettings(ifname), before)
    }
  })

  it('may be deleted while in use: closing works, and does not bring it back', async () => {
    const held = resources()
    addTap(ifname, 'vnet_hdr')
    const { backend, driver } = await open(given, { ifname })
    const faults: RingFault[] = []
    backend.on('fault', (fault) => faults.push(fault))
    start({ backend, driver })
    ip('link', 'delete', ifname)
    const offsets = new Uint32Array(1)
    driver.pairs[0]!.tx.allocate(offsets)
    assert.equal(backend.running(0), true)
    assert.deepEqual(closeGiven(), [])
    for (const { pair, errors } of faults) assert.ok(pair === 0 && errors > 0)
    assert.equal(exists(ifname), false)
    assert.deepEqual(await diffSoon(held), [])
  })

  it('cannot be started once it was deleted, and says why', async () => {
    addTap(ifname, 'vnet_hdr')
    const { backend, driver } = await open(given, { ifname })
    ip('link', 'delete', ifname)
    const error = await failureOf(() => start({ backend, driver }))
    assert.ok(error instanceof SystemCallError)
    assert.equal(error.code, 'EBADFD')
    assert.match(error.message, /theirs0/)
    assert.match(error.hint!, /was deleted/)
    assert.deepEqual(closeGiven(), [])
    assert.equal(exists(ifname), false)
  })

  it('is not confused with another one that took its name', async () => {
    addTap(ifname, 'vnet_hdr')
    const { backend, driver } = await open(given, { ifname })
    start({ backend, driver })
    ip('link', 'delete', ifname)
    addTap(ifname, 'pi')
    setOddly()
    const another = { ...tapSettings(ifname), ip: ipState(ifname) }
    assert.deepEqual(closeGiven(), [])
    assert.deepEqual({ ...tapSettings(ifname), ip: ipState(ifname) }, another)
  })

  it('may be renamed while in use: frames still pass, and it is put back under its new name', async () => {
    addTap(ifname, 'pi')
    setOddly()
    const before = tapSettings(ifname)
    const { backend, driver } = await open(given, { ifname })
    start({ backend, driver })
    ip('link', 'set', ifname, 'name', 'renamed0')
    ip('link', 'set', 'renamed0', 'up')
    assert.ok(await moves(driver, 0))
    const bases = backend.stop(0)
    assert.equal(bases.tx, 1)
    assert.deepEqual(closeGiven(), [])
    assert.deepEqual(tapSettings('renamed0'), before)
    assert.equal(exists(ifname), false)
  })

  it('is shared where it is multi-queue, and its other user keeps what it has', async () => {
    addTap(ifname, 'multi_queue', 'vnet_hdr')
    const theirs = Tap.open({ ifname, multiQueue: true })
    try {
      theirs.setVnetHdrSz(12)
      theirs.setSndbuf(123_456)
      const flags = sysfs(ifname, 'tun_flags')
      const { netlink } = await bringUp(given, { ifname, queuePairs: 2 })
      assert.equal(netlink.getLink({ ifname })!.tun!.numqueues, 3)
      assert.equal(theirs.getSndbuf(), 123_456)
      assert.deepEqual(closeGiven(), [])
      assert.equal(sysfs(ifname, 'tun_flags'), flags)
      assert.equal(theirs.getVnetHdrSz(), 12)
      assert.equal(theirs.getSndbuf(), 123_456)
    } finally {
      theirs.close()
    }
  })

  it('is shared, and has the send buffer that was asked for on all its queues, the other user’s too', async () => {
    addTap(ifname, 'multi_queue', 'vnet_hdr')
    const theirs = Tap.open({ ifname, multiQueue: true })
    try {
      const { backend, driver } = await open(given, { ifname, queuePairs: 2, sndbuf: 65_536 })
      assert.equal(theirs.getSndbuf(), TUN_SNDBUF_UNLIMITED)
      for (const pair of [0, 1]) start({ backend, driver }, pair)
      assert.equal(backend.inspect().sndbuf, 65_536)
      for (const { tap } of backend.inspect().pairs) assert.deepEqual(tap, { vnetHdrSz: 12, sndbuf: 65_536 })
      assert.equal(theirs.getSndbuf(), 65_536)
      assert.ok(await moves(driver, 0))
      assert.deepEqual(closeGiven(), [])
    } finally {
      theirs.close()
    }
  })

  it('is shared, and what its other user sets while a pair is about to start stays', async () => {
    addTap(ifname, 'multi_queue', 'vnet_hdr')
    const theirs = Tap.open({ ifname, multiQueue: true })
    try {
      const { backend, driver } = await open(given, { ifname })
      theirs.setSndbuf(123_456)
      start({ backend, driver })
      assert.deepEqual(backend.inspect().pairs[0]!.tap, { vnetHdrSz: 12, sndbuf: 123_456 })
      assert.equal(theirs.getSndbuf(), 123_456)
      assert.deepEqual(closeGiven(), [])
      assert.equal(theirs.getSndbuf(), 123_456)
    } finally {
      theirs.close()
    }
  })

  it('opens no further queue to frames while it has a classic filter, and says so', async () => {
    addTap(ifname, 'multi_queue', 'vnet_hdr')
    const theirs = Tap.open({ ifname, multiQueue: true })
    try {
      const { backend, driver } = await open(given, { ifname, queuePairs: 2 })
      theirs.attachFilter([{ code: 0x06, jt: 0, jf: 0, k: 2 ** 32 - 1 }])
      start({ backend, driver }, 0)
      assert.throws(() => start({ backend, driver }, 1), { code: 'ERR_OPTION_CONFLICT', message: /classic filter/ })
      assert.equal(backend.running(1), false)
      theirs.detachFilter()
      start({ backend, driver }, 1)
      assert.ok(backend.inspect().pairs[1]!.attached)
      assert.deepEqual(closeGiven(), [])
    } finally {
      theirs.close()
    }
  })
})
