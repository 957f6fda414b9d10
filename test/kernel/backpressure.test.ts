// A tap whose queues hold frames back instead of dropping them (IFF_BACKPRESSURE), on kernels that know it.

import assert from 'node:assert/strict'
import { IFF } from '../../lib/abi/tun.ts'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Burst, Driver } from '../../lib/driver/index.ts'
import { InvalidOptionError } from '../../lib/errors.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { failureOf, features } from '../support/bring-up.ts'
import { sendFrames, setUpHost } from '../support/host-frames.ts'
import { since } from '../support/kernel.ts'
import { networkDevices } from '../support/resources.ts'
import { addTap, ip, sysfs } from '../support/tuntap.ts'

const ifname = 'press0'
const mac = '52:54:00:12:34:56'
/** Frames that the tap's queue has room for, and that the host sends. */
const [ROOM, SENT] = [10, 40]

const holdsBack = (): boolean => (Number(sysfs(ifname, 'tun_flags')) & IFF.IFF_BACKPRESSURE) !== 0
const exists = (): boolean => networkDevices().some((device) => device.startsWith(`${ifname} `))

describe('tap.backpressure', () => {
  let closing: Teardown

  beforeEach(() => {
    closing = new Teardown()
  })

  afterEach(() => {
    closing.run()
    if (exists()) ip('link', 'delete', ifname)
  })

  const open = async (backpressure?: boolean, queuePairs = 1) => {
    const memory = closing.own(GuestMemory.allocate({ size: 4 << 20 }))
    const tap = { ifname, ...(backpressure === undefined ? {} : { backpressure }) }
    return { memory, backend: closing.own(await VhostNetBackend.open({ memory, queuePairs, tap })) }
  }

  const dropped = (): number => {
    using netlink = RtNetlink.open()
    return netlink.getLink({ ifname })!.stats.tx_dropped
  }

  /** The host sends more frames than there is room for, while nobody takes them. */
  const overflow = async (): Promise<void> => {
    setUpHost(ifname)
    ip('link', 'set', ifname, 'txqueuelen', String(ROOM))
    // Its limit is its own, not the device's queue length.
    ip('link', 'set', ifname, 'down')
    ip('link', 'set', ifname, 'up')
    await sendFrames(ifname, ...Array.from({ length: SENT }, () => mac))
  }

  /** How many frames come once there is a driver. */
  const received = async (backend: VhostNetBackend, memory: NativeMemory, count: number): Promise<number> => {
    const driver = Driver.create({ memory, features, queueSize: 16 })
    closing.add(() => driver.destroy())
    const { rx, tx } = driver.pairs[0]!
    backend.start(0, { features, rx: rx.vring, tx: tx.vring })
    const burst = new Burst(16)
    let frames = 0
    while (frames < count) {
      await rx.readable(AbortSignal.timeout(10_000))
      frames += rx.receive(burst)
      rx.releaseBurst(burst)
    }
    return frames
  }

  it('is off where nobody asks for it: what finds no room is dropped', async () => {
    const { backend, memory } = await open()
    assert.equal(holdsBack(), false)
    await overflow()
    assert.equal(dropped(), SENT - ROOM)
    assert.equal(await received(backend, memory, ROOM), ROOM)
  })

  if (!since(7, 0)) {
    it('is refused by a kernel that does not know it, before anything is made', async () => {
      assert.equal(Tap.knownFlags() & IFF.IFF_BACKPRESSURE, 0)
      const error = await failureOf(() => open(true))
      assert.ok(error instanceof InvalidOptionError)
      assert.equal(error.code, 'ERR_OPTION_CONFLICT')
      assert.match(error.message, /^tap\.backpressure: this kernel's tun has no IFF_BACKPRESSURE\n.*newer kernel/)
      assert.equal(exists(), false)
    })

    it('can be said to be off', async () => {
      await open(false)
      assert.ok(exists())
    })
    return
  }

  it('holds back what finds no room, and brings it once there is some', async () => {
    const { backend, memory } = await open(true)
    assert.ok(holdsBack())
    await overflow()
    assert.equal(await received(backend, memory, SENT), SENT)
    assert.equal(dropped(), 0)
  })

  it('is of a tap that was there while it is used, and not afterwards', async () => {
    addTap(ifname)
    await open(true)
    assert.ok(holdsBack())
    closing.run()
    assert.equal(holdsBack(), false)
  })

  for (const [option, during] of [
    [undefined, true],
    [true, true],
    [false, false],
  ] as const) {
    it(`of a tap that was made with it is ${during ? 'kept' : 'given up, and given back'}: ${option}`, async () => {
      addTap(ifname)
      const maker = Tap.open({ ifname, backpressure: true })
      maker.close()
      assert.ok(holdsBack())
      await open(option)
      assert.equal(holdsBack(), during)
      closing.run()
      assert.ok(holdsBack())
    })
  }

  it('is refused on a tap that somebody uses without it', async () => {
    addTap(ifname, 'multi_queue', 'vnet_hdr')
    closing.own(Tap.open({ ifname, multiQueue: true }))
    const error = await failureOf(() => open(true, 2))
    assert.ok(error instanceof InvalidOptionError)
    assert.equal(error.code, 'ERR_OPTION_CONFLICT')
    assert.match(error.message, /^tap\.backpressure: 'press0' is in use without it\n.*Stop what is attached/)
  })
})
