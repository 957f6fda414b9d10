// Every ioctl of /dev/vhost-net: what it does, seen where it can be seen, and each refusal of the kernel's.

import assert from 'node:assert/strict'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import {
  VHOST_ACCESS,
  VHOST_BACKEND_F,
  VHOST_F,
  VHOST_FORK_OWNER,
  VHOST_IOTLB,
  VHOST_NET_VQ_RX,
  VHOST_NET_VQ_TX,
  VHOST_PAGE_SIZE,
  VHOST_VRING_ENDIAN,
  VHOST_VRING_F,
} from '../../lib/abi/vhost.ts'
import { VIRTIO_F, vringSizes } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { binding, type MemTableRegion, type VringAddresses } from '../../lib/binding/index.ts'
import { Burst, Driver } from '../../lib/driver/index.ts'
import { GuestMemoryError } from '../../lib/errors.ts'
import { EventFd } from '../../lib/event/index.ts'
import { probeVhostNet, Tap, VhostNet } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import type { Vring } from '../../lib/virtio/vring.ts'
import { features, moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { sendFrames, setUpHost } from '../support/host-frames.ts'
import { since } from '../support/kernel.ts'
import { type Refusal, refused } from '../support/refused.ts'
import { vhostWorkers } from '../support/resources.ts'
import { soon } from '../support/soon.ts'
import { ip } from '../support/tuntap.ts'

const bit = (number: number): bigint => 1n << BigInt(number)
const ifname = 'vioctl0'
const rings = [VHOST_NET_VQ_RX, VHOST_NET_VQ_TX]

/** What VHOST_GET_FEATURES answers. */
const known = since(7, 0) ? 0x10b3d008000n : since(6, 12) ? 0x1033d008000n : 0x33d008000n
/** Bits 65 and 67, which only the array has. */
const knownAbove = since(6, 17) ? bit(65) | bit(67) : 0n
const hasForkFromOwner = since(6, 12)

const noOwner = /call setOwner\(\)/
const twoRings = /two rings: 0 receives, 1 transmits/

describe('vhost-net ioctls', () => {
  let memory: NativeMemory
  let vhost: VhostNet
  let opened: Teardown
  let workersBefore: string[]

  before(() => {
    memory = GuestMemory.allocate({ size: 4 << 20 })
  })
  after(() => memory.close())

  beforeEach(() => {
    opened = new Teardown()
    workersBefore = vhostWorkers()
    vhost = opened.own(VhostNet.open())
  })
  afterEach('everything closes', () => opened.run())

  /** Aligned addresses of a ring of at most 16 entries, in memory that nothing else uses. */
  const addresses = (change: Partial<VringAddresses> = {}): VringAddresses => ({
    flags: 0,
    desc_user_addr: memory.hostAddress(0, 256),
    avail_user_addr: memory.hostAddress(4096, 256),
    used_user_addr: memory.hostAddress(8192, 256),
    log_guest_addr: 0n,
    ...change,
  })

  /** A memory whose table is this one. */
  const withTable = (table: readonly Partial<MemTableRegion>[]): NativeMemory => {
    const [region] = memory.memTable()
    return { memTable: () => table.map((change) => ({ ...region, ...change })) } as unknown as NativeMemory
  }

  /** An eventfd whose number was closed behind its back. */
  const closedEvent = (): EventFd => {
    const event = EventFd.create()
    closeSync(event.fd)
    opened.add(() => event.detach())
    return event
  }
  const noEvent = (): EventFd => opened.own(EventFd.fromFd(openSync('/dev/null', 'r')))

  /** A fd in the place of a tap's. */
  const asTap = (native: Tap['native']): Tap => ({ native }) as unknown as Tap

  interface LiveOptions {
    /** Added to those that the driver knows. */
    more?: bigint
    flags?: number
    /** Whether rings are at guest-physical addresses, in front of which there is an IOTLB. */
    iotlb?: boolean
  }

  /** All that running rings take but SET_BACKEND, with the steps that the options change. */
  function prepare({ more = 0n, flags = 0, iotlb = false }: LiveOptions = {}): { tap: Tap; driver: Driver } {
    const tap = opened.own(Tap.open({ ifname }))
    ip('link', 'set', ifname, 'addrgenmode', 'none')
    ip('link', 'set', ifname, 'up')
    tap.setVnetHdrSz(VIRTIO_NET_HDR_SIZE)
    const driver = Driver.create({ memory, features, queueSize: 16 })
    opened.add(() => driver.destroy())
    vhost.setOwner()
    vhost.setFeatures(features | more)
    vhost.setMemTable(memory)
    const { rx, tx } = driver.pairs[0]!
    for (const [index, ring] of [rx.vring, tx.vring].entries()) setRing(index, ring, flags, iotlb)
    return { tap, driver }
  }

  function setRing(index: number, ring: Vring, flags: number, iotlb: boolean): void {
    const sizes = vringSizes(ring.num)
    const place = (address: number, size: number) => (iotlb ? BigInt(address) : memory.hostAddress(address, size))
    vhost.setVringNum(index, ring.num)
    vhost.setVringBase(index, 0)
    vhost.setVringAddr(index, {
      flags,
      desc_user_addr: place(ring.desc, sizes.desc),
      avail_user_addr: place(ring.avail, sizes.avail),
      used_user_addr: place(ring.used, sizes.used),
      log_guest_addr: flags === 0 ? 0n : BigInt(ring.used),
    })
    vhost.setVringKick(index, ring.kick)
    vhost.setVringCall(index, ring.call)
  }

  function attach(tap: Tap): void {
    for (const index of rings) {
      vhost.setBackend(index, tap)
      opened.add(() => vhost.setBackend(index, null))
    }
  }

  function live(options: LiveOptions = {}): { tap: Tap; driver: Driver } {
    const prepared = prepare(options)
    attach(prepared.tap)
    return prepared
  }

  function ownWorkers(): string[] {
    return readdirSync('/proc/self/task')
      .map((tid) => readFileSync(`/proc/self/task/${tid}/comm`, 'utf8').trim())
      .filter((comm) => comm.startsWith('vhost-'))
  }

  describe('without an owner', () => {
    const event = null
    const cases: readonly (readonly [syscall: string, call: () => unknown])[] = [
      ['VHOST_RESET_OWNER', () => vhost.resetOwner()],
      ['VHOST_NEW_WORKER', () => vhost.newWorker()],
      ['VHOST_FREE_WORKER', () => vhost.freeWorker(0)],
      ['VHOST_ATTACH_VRING_WORKER', () => vhost.attachVringWorker(0, 0)],
      ['VHOST_GET_VRING_WORKER', () => vhost.getVringWorker(0)],
      ['VHOST_SET_MEM_TABLE', () => vhost.setMemTable(memory)],
      ['VHOST_SET_LOG_BASE', () => vhost.setLogBase(memory, 0, 4096)],
      ['VHOST_SET_LOG_FD', () => vhost.setLogFd(event)],
      ['VHOST_SET_VRING_NUM', () => vhost.setVringNum(0, 16)],
      ['VHOST_SET_VRING_ADDR', () => vhost.setVringAddr(0, addresses())],
      ['VHOST_SET_VRING_BASE', () => vhost.setVringBase(0, 0)],
      ['VHOST_GET_VRING_BASE', () => vhost.getVringBase(0)],
      ['VHOST_SET_VRING_ENDIAN', () => vhost.setVringEndian(0, 0)],
      ['VHOST_GET_VRING_ENDIAN', () => vhost.getVringEndian(0)],
      ['VHOST_SET_VRING_BUSYLOOP_TIMEOUT', () => vhost.setVringBusyloopTimeout(0, 1)],
      ['VHOST_GET_VRING_BUSYLOOP_TIMEOUT', () => vhost.getVringBusyloopTimeout(0)],
      ['VHOST_SET_VRING_KICK', () => vhost.setVringKick(0, event)],
      ['VHOST_SET_VRING_CALL', () => vhost.setVringCall(0, event)],
      ['VHOST_SET_VRING_ERR', () => vhost.setVringErr(0, event)],
      ['VHOST_NET_SET_BACKEND', () => vhost.setBackend(0, null)],
    ]
    for (const [syscall, call] of cases) {
      it(`${syscall} is refused`, () => refused(call, [syscall, 'EPERM', noOwner]))
    }
  })

  describe('on a third ring', () => {
    const cases: readonly (readonly [syscall: string, call: () => unknown])[] = [
      ['VHOST_SET_VRING_NUM', () => vhost.setVringNum(2, 16)],
      ['VHOST_SET_VRING_ADDR', () => vhost.setVringAddr(2, addresses())],
      ['VHOST_SET_VRING_BASE', () => vhost.setVringBase(2, 0)],
      ['VHOST_GET_VRING_BASE', () => vhost.getVringBase(2)],
      ['VHOST_SET_VRING_ENDIAN', () => vhost.setVringEndian(2, 0)],
      ['VHOST_GET_VRING_ENDIAN', () => vhost.getVringEndian(2)],
      ['VHOST_SET_VRING_BUSYLOOP_TIMEOUT', () => vhost.setVringBusyloopTimeout(2, 1)],
      ['VHOST_GET_VRING_BUSYLOOP_TIMEOUT', () => vhost.getVringBusyloopTimeout(2)],
      ['VHOST_SET_VRING_KICK', () => vhost.setVringKick(2, null)],
      ['VHOST_SET_VRING_CALL', () => vhost.setVringCall(2, null)],
      ['VHOST_SET_VRING_ERR', () => vhost.setVringErr(2, null)],
      ['VHOST_NET_SET_BACKEND', () => vhost.setBackend(2, null)],
    ]
    for (const [syscall, call] of cases) {
      it(`${syscall} is refused`, () => {
        vhost.setOwner()
        refused(call, [syscall, 'ENOBUFS', twoRings])
      })
    }
  })

  describe('features', () => {
    it('VHOST_GET_FEATURES has the bits of this kernel', () => assert.equal(vhost.getFeatures(), known))

    it('VHOST_SET_FEATURES takes each bit that there is, and refuses each other one', () => {
      for (let number = 0; number < 64; number++) {
        const set = () => vhost.setFeatures(bit(number))
        if (known & bit(number)) set()
        else refused(set, ['VHOST_SET_FEATURES', 'EOPNOTSUPP', /mask with getFeatures/])
      }
    })

    for (const owned of [false, true]) {
      const name = owned ? 'with an owner' : 'without an owner'
      const missing = owned ? 'ENOBUFS' : 'EPERM'

      it(`VHOST_GET_FEATURES_ARRAY has the bits of this kernel or says that there is no such call, ${name}`, () => {
        if (owned) vhost.setOwner()
        if (since(6, 17)) assert.equal(vhost.getFeaturesArray(), known | knownAbove)
        else refused(() => vhost.getFeaturesArray(), ['VHOST_GET_FEATURES_ARRAY', missing, /Linux 6\.17/])
      })

      it(`VHOST_SET_FEATURES_ARRAY takes each bit of 128 that there is, and refuses each other one, ${name}`, () => {
        if (owned) vhost.setOwner()
        for (let number = 0; number < 128; number++) {
          const set = () => vhost.setFeaturesArray(bit(number))
          if (!since(6, 17)) refused(set, ['VHOST_SET_FEATURES_ARRAY', missing, /Linux 6\.17/])
          else if ((known | knownAbove) & bit(number)) set()
          else refused(set, ['VHOST_SET_FEATURES_ARRAY', 'EOPNOTSUPP', /mask with getFeaturesArray/])
        }
      })
    }

    it('more than 128 bits, and less than none, do not reach the kernel', () => {
      for (const wrong of [1n << 128n, -1n]) {
        assert.throws(() => vhost.setFeaturesArray(wrong), { code: 'ERR_OPTION_RANGE', option: 'features' })
      }
    })

    it('VHOST_GET_BACKEND_FEATURES has IOTLB_MSG_V2', () => {
      assert.equal(vhost.getBackendFeatures(), bit(VHOST_BACKEND_F.VHOST_BACKEND_F_IOTLB_MSG_V2))
    })

    it('VHOST_SET_BACKEND_FEATURES takes IOTLB_MSG_V2, and refuses each other bit', () => {
      for (let number = 0; number < 64; number++) {
        const set = () => vhost.setBackendFeatures(bit(number))
        if (number === VHOST_BACKEND_F.VHOST_BACKEND_F_IOTLB_MSG_V2) set()
        else refused(set, ['VHOST_SET_BACKEND_FEATURES', 'EOPNOTSUPP', /mask with getBackendFeatures/])
      }
    })
  })

  describe('the owner', () => {
    it('VHOST_SET_OWNER starts a worker, of the process from Linux 6.4 on', () => {
      vhost.setOwner()
      assert.equal(vhostWorkers().length, workersBefore.length + 1)
      assert.equal(ownWorkers().length, since(6, 4) ? 1 : 0)
    })

    it('VHOST_SET_OWNER starts a worker amid signals, such as a profiler sends', () => {
      const session = new Session()
      session.connect()
      try {
        session.post('Profiler.enable')
        session.post('Profiler.setSamplingInterval', { interval: 50 })
        session.post('Profiler.start')
        for (let i = 0; i < 100; i++) {
          const one = VhostNet.open()
          try {
            one.setOwner()
          } finally {
            one.close()
          }
        }
      } finally {
        session.disconnect()
      }
    })

    it('VHOST_SET_OWNER is refused the second time', () => {
      vhost.setOwner()
      refused(() => vhost.setOwner(), ['VHOST_SET_OWNER', 'EBUSY', /an fd of its own/])
    })

    it('VHOST_RESET_OWNER ends the worker and forgets what was set, and the fd can have an owner again', async () => {
      vhost.setOwner()
      vhost.setVringBase(0, 77)
      vhost.setVringBusyloopTimeout(0, 50)
      vhost.resetOwner()
      await soon('the worker ends', () => vhostWorkers().length === workersBefore.length)
      refused(() => vhost.resetOwner(), ['VHOST_RESET_OWNER', 'EPERM', noOwner])
      vhost.setOwner()
      assert.deepEqual([vhost.getVringBase(0), vhost.getVringBusyloopTimeout(0)], [0, 0])
    })

    it('has one worker for both rings, whatever the kernel: the calls for more say that there are none', () => {
      const one: RegExp = /one worker, for both of its rings: open one fd for each queue pair/
      vhost.setOwner()
      refused(() => vhost.newWorker(), ['VHOST_NEW_WORKER', 'ENOTTY', one])
      for (const [worker, code] of [
        [0, 'ENOTTY'],
        [1, 'ENOTTY'],
        [2, 'ENOBUFS'],
      ] as const) {
        refused(() => vhost.freeWorker(worker), ['VHOST_FREE_WORKER', code, one])
      }
      for (const index of rings) {
        refused(() => vhost.attachVringWorker(index, 7), ['VHOST_ATTACH_VRING_WORKER', 'ENOTTY', one])
        refused(() => vhost.getVringWorker(index), ['VHOST_GET_VRING_WORKER', 'ENOTTY', one])
      }
      refused(() => vhost.attachVringWorker(2, 7), ['VHOST_ATTACH_VRING_WORKER', 'ENOBUFS', twoRings])
      refused(() => vhost.getVringWorker(2), ['VHOST_GET_VRING_WORKER', 'ENOBUFS', twoRings])
      assert.equal(vhostWorkers().length, workersBefore.length + 1)
    })

    const noFork = /Linux 6\.17/
    if (hasForkFromOwner) {
      for (const [name, mode] of Object.entries(VHOST_FORK_OWNER)) {
        it(`VHOST_SET_FORK_FROM_OWNER ${name} makes the worker one, and VHOST_GET_FORK_FROM_OWNER says so`, () => {
          vhost.setForkFromOwner(mode)
          assert.equal(vhost.getForkFromOwner(), mode)
          vhost.setOwner()
          assert.equal(vhost.getForkFromOwner(), mode)
          assert.equal(ownWorkers().length, mode)
          assert.equal(vhostWorkers().length, workersBefore.length + 1)
          vhost.resetOwner()
          assert.equal(vhost.getForkFromOwner(), VHOST_FORK_OWNER.VHOST_FORK_OWNER_TASK, "the module's default")
        })
      }

      it('VHOST_SET_FORK_FROM_OWNER is refused once there is a worker, and where it is neither', () => {
        for (const mode of [2, 255]) {
          refused(() => vhost.setForkFromOwner(mode), ['VHOST_SET_FORK_FROM_OWNER', 'EINVAL', /KTHREAD \(0\)/])
        }
        vhost.setOwner()
        refused(() => vhost.setForkFromOwner(1), ['VHOST_SET_FORK_FROM_OWNER', 'EBUSY', /before setOwner/])
      })
    } else {
      it('VHOST_SET_FORK_FROM_OWNER and VHOST_GET_FORK_FROM_OWNER say that there is no such call', () => {
        refused(() => vhost.getForkFromOwner(), ['VHOST_GET_FORK_FROM_OWNER', 'EPERM', noFork])
        refused(() => vhost.setForkFromOwner(0), ['VHOST_SET_FORK_FROM_OWNER', 'EPERM', noFork])
        vhost.setOwner()
        refused(() => vhost.getForkFromOwner(), ['VHOST_GET_FORK_FROM_OWNER', 'ENOTTY', noFork])
        refused(() => vhost.setForkFromOwner(0), ['VHOST_SET_FORK_FROM_OWNER', 'ENOTTY', noFork])
        refused(() => vhost.setForkFromOwner(2), ['VHOST_SET_FORK_FROM_OWNER', 'ENOBUFS', noFork])
      })
    }
  })

  describe('memory', () => {
    it('VHOST_SET_MEM_TABLE lets the worker reach what is in the table, and nothing else', async () => {
      const { driver } = live()
      const error = opened.own(EventFd.create('tx err'))
      vhost.setVringErr(VHOST_NET_VQ_TX, error)
      assert.ok(await moves(driver, 0))
      assert.equal(error.read(), 0n)

      vhost.setMemTable(withTable([{ memory_size: 4096 }]))
      const offsets = new Uint32Array(1)
      const { tx } = driver.pairs[0]!
      tx.allocate(offsets)
      const burst = new Burst(1)
      burst.add(offsets[0]!, 72)
      tx.send(burst)
      let faults = 0n
      await soon('VHOST_SET_VRING_ERR signals', () => {
        faults += error.read()
        return faults > 0n
      })
      assert.equal(tx.inFlight, 1)
    })

    it('VHOST_SET_MEM_TABLE takes as many regions as the module says, also none, and no more', () => {
      vhost.setOwner()
      const most = Number(readFileSync('/sys/module/vhost/parameters/max_mem_regions', 'utf8'))
      const table = (length: number) =>
        withTable(
          Array.from({ length }, (_, i) => ({ guest_phys_addr: i * 4096, memory_size: 4096, offset: i * 4096 })),
        )
      vhost.setMemTable(table(0))
      vhost.setMemTable(table(most))
      refused(() => vhost.setMemTable(table(most + 1)), ['VHOST_SET_MEM_TABLE', 'E2BIG', /max_mem_regions/])
    })

    it('VHOST_SET_MEM_TABLE refuses an empty region', () => {
      vhost.setOwner()
      const empty = withTable([{ guest_phys_addr: 4096, memory_size: 0 }])
      refused(() => vhost.setMemTable(empty), ['VHOST_SET_MEM_TABLE', 'EFAULT', /A region is empty/])
    })
  })

  describe('the dirty log', () => {
    it('VHOST_SET_LOG_BASE has a bit for each page that the worker writes, and VHOST_SET_LOG_FD signals it', async () => {
      const log = opened.own(GuestMemory.allocate({ size: 8192 }))
      const bits = (memory.regions[0]!.size / VHOST_PAGE_SIZE) >> 3
      const signal = opened.own(EventFd.create('log'))
      vhost.setOwner()
      vhost.setLogBase(log, 4096, bits)
      vhost.setLogFd(signal)
      vhost.resetOwner()
      const { driver } = prepareLogged(log, bits, signal)
      const dirty = log.window(0, 8192)
      const { rx, tx } = driver.pairs[0]!
      const logged = () => [...dirty.entries()].filter(([, byte]) => byte !== 0)
      const pages = (...addresses: number[]) => {
        const expected = new Map<number, number>()
        for (const page of addresses.map((address) => Math.floor(address / VHOST_PAGE_SIZE))) {
          const at = 4096 + (page >> 3)
          expected.set(at, (expected.get(at) ?? 0) | (1 << (page & 7)))
        }
        return [...expected].sort(([a], [b]) => a - b)
      }
      assert.deepEqual(logged(), pages(rx.vring.used, tx.vring.used), 'attaching writes used.flags')
      dirty.fill(0)
      signal.read()
      assert.ok(await moves(driver, 0))
      await soon('the log is signalled', () => signal.read() > 0n)
      assert.deepEqual(logged(), pages(tx.vring.used))
      dirty.fill(0)
      setUpHost(ifname)
      await sendFrames(ifname, '52:54:00:00:00:01')
      await rx.readable(AbortSignal.timeout(5000))
      const burst = new Burst(1)
      assert.equal(rx.receive(burst), 1)
      assert.deepEqual(logged(), pages(rx.vring.used, rx.layout.pool + burst.offsets[0]!))
    })

    function prepareLogged(log: NativeMemory, bits: number, signal: EventFd): { driver: Driver } {
      const { tap, driver } = prepare({
        more: bit(VHOST_F.VHOST_F_LOG_ALL),
        flags: 1 << VHOST_VRING_F.VHOST_VRING_F_LOG,
      })
      vhost.setLogBase(log, 4096, bits)
      vhost.setLogFd(signal)
      attach(tap)
      return { driver }
    }

    it('VHOST_SET_LOG_BASE must lie in memory', () => {
      vhost.setOwner()
      assert.throws(() => vhost.setLogBase(memory, (4 << 20) - 8, 16), GuestMemoryError)
    })

    describe('reaches up to the end of guest memory', () => {
      const logAll = bit(VHOST_F.VHOST_F_LOG_ALL)
      /** 128 bytes stand for the 4 MiB of guest memory. */
      const enough = 128
      type Step = 'features' | 'table' | 'bitmap'
      let log: NativeMemory

      beforeEach(() => {
        log = opened.own(GuestMemory.allocate({ size: 4096 }))
        vhost.setOwner()
      })

      const take = (step: Step, bytes: number): void => {
        if (step === 'features') vhost.setFeatures(features | logAll)
        else if (step === 'table') vhost.setMemTable(memory)
        else vhost.setLogBase(log, 0, bytes)
      }
      const short = (needed: number) => (error: unknown) =>
        error instanceof GuestMemoryError &&
        error.code === 'ERR_GPA_NOT_LOGGED' &&
        error.hint === `It must have ${needed} bytes: one bit for each 4 KiB.`

      const orders: readonly (readonly Step[])[] = [
        ['features', 'table', 'bitmap'],
        ['features', 'bitmap', 'table'],
        ['table', 'features', 'bitmap'],
        ['table', 'bitmap', 'features'],
        ['bitmap', 'features', 'table'],
        ['bitmap', 'table', 'features'],
      ]
      for (const order of orders) {
        it(`or the last call of three does not reach the kernel: ${order.join(', ')}`, async () => {
          const last = order.at(-1)!
          for (const step of order.slice(0, -1)) take(step, enough - 1)
          await recording((record) => {
            assert.throws(() => take(last, enough - 1), short(enough))
            assert.deepEqual(record.calls, [])
          })
          vhost.setFeatures(features)
          for (const step of [...order].sort((a, b) => Number(b === 'bitmap') - Number(a === 'bitmap')))
            take(step, enough)
        })
      }

      it('or memory does not grow', async () => {
        const grows = opened.own(GuestMemory.allocate({ regions: [{ guestAddress: 0, size: 4 << 20 }] }))
        opened.add(grows.follow(() => vhost.setMemTable(grows)))
        vhost.setFeatures(features | logAll)
        vhost.setMemTable(grows)
        vhost.setLogBase(log, 0, enough)
        const region = { guestAddress: 8 << 20, size: 4096 }
        assert.throws(() => grows.addRegion(region), short(257))
        assert.equal(grows.regions.length, 1)
        vhost.setLogBase(log, 0, 257)
        grows.addRegion(region)
      })

      it('where a single ring is logged, only as far as that', async () => {
        const logged = (log_guest_addr: bigint) =>
          addresses({ flags: 1 << VHOST_VRING_F.VHOST_VRING_F_LOG, log_guest_addr })
        vhost.setMemTable(memory)
        vhost.setVringNum(0, 16)
        vhost.setLogBase(log, 0, 1)
        vhost.setVringAddr(0, logged(8192n))
        await recording((record) => {
          assert.throws(() => vhost.setVringAddr(0, logged(8n << 12n)), short(2))
          assert.throws(() => vhost.setVringAddr(0, logged((4n << 20n) - 64n)), { code: 'ERR_GPA_RANGE' })
          assert.throws(() => vhost.setVringAddr(0, logged(2n ** 60n)), { code: 'ERR_GPA_RANGE' })
          // 4 KiB more of used ring than the page of its bit.
          assert.throws(() => vhost.setVringNum(0, 4096), short(2))
          assert.deepEqual(record.calls, [])
        })
        vhost.setVringAddr(0, addresses())
        vhost.setVringNum(0, 4096)
      })

      it('or nothing that is to be logged starts without it', async () => {
        vhost.resetOwner()
        const { tap } = prepare({ more: logAll })
        await recording((record) => {
          assert.throws(() => vhost.setBackend(0, tap), { code: 'ERR_GPA_NOT_LOGGED', hint: /setLogBase/ })
          assert.deepEqual(record.calls, [])
        })
        vhost.setLogBase(log, 0, enough)
        attach(tap)
      })

      it('until the owner is reset, which forgets the bitmap', () => {
        vhost.setFeatures(features | logAll)
        vhost.setLogBase(log, 0, 1)
        vhost.resetOwner()
        vhost.setOwner()
        vhost.setFeatures(features | logAll)
        vhost.setMemTable(memory)
        assert.throws(() => vhost.setLogBase(log, 0, 1), short(enough))
      })
    })

    it('VHOST_SET_LOG_FD takes an eventfd or none', () => {
      vhost.setOwner()
      vhost.setLogFd(opened.own(EventFd.create()))
      vhost.setLogFd(null)
      refused(() => vhost.setLogFd(closedEvent()), ['VHOST_SET_LOG_FD', 'EBADF', /was closed/])
      refused(() => vhost.setLogFd(noEvent()), ['VHOST_SET_LOG_FD', 'EINVAL', /not an eventfd/])
    })
  })

  describe('rings', () => {
    it('VHOST_SET_VRING_NUM takes every power of two from 1 to 32768, and nothing else', () => {
      vhost.setOwner()
      for (const index of rings) {
        for (let num = 1; num <= 32768; num *= 2) vhost.setVringNum(index, num)
        for (const num of [0, 3, 100, 32767, 65536, 2 ** 31, 2 ** 32 - 1]) {
          refused(() => vhost.setVringNum(index, num), ['VHOST_SET_VRING_NUM', 'EINVAL', /power of two/])
        }
      }
    })

    it('VHOST_SET_VRING_BASE takes 0..65535, which VHOST_GET_VRING_BASE says again, each ring its own', () => {
      vhost.setOwner()
      for (const base of [0, 1, 32768, 65535]) {
        vhost.setVringBase(VHOST_NET_VQ_RX, base)
        vhost.setVringBase(VHOST_NET_VQ_TX, 65535 - base)
        assert.deepEqual(
          rings.map((index) => vhost.getVringBase(index)),
          [base, 65535 - base],
        )
      }
      refused(() => vhost.setVringBase(0, 65536), ['VHOST_SET_VRING_BASE', 'EINVAL', /0\.\.65535/])
    })

    it('VHOST_GET_VRING_BASE counts what the worker took', async () => {
      const { driver } = live()
      for (let round = 0; round < 3; round++) assert.ok(await moves(driver, 0))
      vhost.setBackend(VHOST_NET_VQ_TX, null)
      assert.equal(vhost.getVringBase(VHOST_NET_VQ_TX), 3)
    })

    it('VHOST_SET_VRING_ADDR takes aligned addresses', () => {
      vhost.setOwner()
      vhost.setVringNum(0, 16)
      vhost.setVringAddr(0, addresses())
      vhost.setVringAddr(0, addresses({ flags: 1 << VHOST_VRING_F.VHOST_VRING_F_LOG, log_guest_addr: 8192n }))
      const misaligned: readonly Partial<VringAddresses>[] = [
        { avail_user_addr: memory.hostAddress(4097, 1) },
        { used_user_addr: memory.hostAddress(8194, 1) },
        { log_guest_addr: 2n },
      ]
      for (const change of misaligned) {
        refused(
          () => vhost.setVringAddr(0, addresses(change)),
          ['VHOST_SET_VRING_ADDR', 'EINVAL', /aligned to 2 bytes, used to 4, and all parts lie in user space/],
        )
      }
      refused(
        () => vhost.setVringAddr(0, addresses({ flags: 2 })),
        ['VHOST_SET_VRING_ADDR', 'EOPNOTSUPP', /VRING_F_LOG/],
      )
    })

    it('VHOST_SET_VRING_ENDIAN and VHOST_GET_VRING_ENDIAN are not in the kernels of distributions', () => {
      vhost.setOwner()
      const { VHOST_VRING_BIG_ENDIAN } = VHOST_VRING_ENDIAN
      const noEndian = /CONFIG_VHOST_CROSS_ENDIAN_LEGACY/
      refused(() => vhost.setVringEndian(0, VHOST_VRING_BIG_ENDIAN), ['VHOST_SET_VRING_ENDIAN', 'ENOTTY', noEndian])
      refused(() => vhost.getVringEndian(0), ['VHOST_GET_VRING_ENDIAN', 'ENOTTY', noEndian])
    })

    it('VHOST_SET_VRING_BUSYLOOP_TIMEOUT takes 32 bits, which VHOST_GET_VRING_BUSYLOOP_TIMEOUT says again', () => {
      vhost.setOwner()
      assert.deepEqual(
        rings.map((index) => vhost.getVringBusyloopTimeout(index)),
        [0, 0],
      )
      for (const microseconds of [0, 1, 50, 2 ** 32 - 1]) {
        vhost.setVringBusyloopTimeout(VHOST_NET_VQ_RX, microseconds)
        vhost.setVringBusyloopTimeout(VHOST_NET_VQ_TX, 7)
        assert.deepEqual(
          rings.map((index) => vhost.getVringBusyloopTimeout(index)),
          [microseconds, 7],
        )
      }
    })

    it('VHOST_SET_VRING_BUSYLOOP_TIMEOUT is legal on a live ring, which goes on', async () => {
      const { driver } = live()
      for (const index of rings) vhost.setVringBusyloopTimeout(index, 20)
      assert.ok(await moves(driver, 0))
    })

    for (const [syscall, set] of [
      ['VHOST_SET_VRING_KICK', (event) => vhost.setVringKick(0, event)],
      ['VHOST_SET_VRING_CALL', (event) => vhost.setVringCall(0, event)],
      ['VHOST_SET_VRING_ERR', (event) => vhost.setVringErr(0, event)],
    ] as readonly (readonly [string, (event: EventFd | null) => void])[]) {
      it(`${syscall} takes an eventfd or none`, () => {
        vhost.setOwner()
        set(opened.own(EventFd.create()))
        set(null)
        refused(() => set(closedEvent()), [syscall, 'EBADF', /was closed/])
        refused(() => set(noEvent()), [syscall, 'EINVAL', /not an eventfd/])
      })
    }

    it('VHOST_SET_VRING_KICK wakes the worker, and VHOST_SET_VRING_CALL is what it signals', async () => {
      const { driver } = live()
      const { tx } = driver.pairs[0]!
      const kick = opened.own(EventFd.create('another kick'))
      const call = opened.own(EventFd.create('another call'))
      vhost.setVringKick(VHOST_NET_VQ_TX, null)
      vhost.setVringCall(VHOST_NET_VQ_TX, call)
      const offsets = new Uint32Array(1)
      tx.allocate(offsets)
      const burst = new Burst(1)
      burst.add(offsets[0]!, 72)
      tx.send(burst)
      assert.equal(call.read(), 0n)
      vhost.setVringKick(VHOST_NET_VQ_TX, kick)
      kick.signal()
      await soon('the call', () => call.read() > 0n)
    })
  })

  describe('on a live ring', () => {
    it('num, base and a kernel address are refused, and the ring goes on', async () => {
      const { driver } = live()
      for (const index of rings) {
        refused(() => vhost.setVringNum(index, 16), ['VHOST_SET_VRING_NUM', 'EBUSY', /detach its backend/])
        refused(() => vhost.setVringBase(index, 0), ['VHOST_SET_VRING_BASE', 'EBUSY', /detach its backend/])
        const inKernel = addresses({ desc_user_addr: 0xffff_8000_0000_0000n })
        refused(
          () => vhost.setVringAddr(index, inKernel),
          ['VHOST_SET_VRING_ADDR', 'EINVAL', /aligned to 2 bytes, used to 4, and all parts lie in user space/],
        )
      }
      assert.ok(await moves(driver, 0))
    })
  })

  describe('the backend', () => {
    const notReady = /memory table or the ring addresses are not set/

    it('VHOST_NET_SET_BACKEND makes the rings live, and detaching stops them', async () => {
      const { tap, driver } = live()
      assert.ok(await moves(driver, 0))
      vhost.setBackend(VHOST_NET_VQ_TX, null)
      const { tx } = driver.pairs[0]!
      const offsets = new Uint32Array(1)
      tx.allocate(offsets)
      const burst = new Burst(1)
      burst.add(offsets[0]!, 72)
      tx.send(burst)
      assert.equal(vhost.getVringBase(VHOST_NET_VQ_TX), 1)
      vhost.setBackend(VHOST_NET_VQ_TX, tap)
      await tx.drained(AbortSignal.timeout(5000))
    })

    it('VHOST_NET_SET_BACKEND is refused without memory and without addresses, even to detach', () => {
      vhost.setOwner()
      refused(() => vhost.setBackend(0, null), ['VHOST_NET_SET_BACKEND', 'EFAULT', notReady])
      vhost.setMemTable(memory)
      const tap = opened.own(Tap.open({ ifname }))
      refused(() => vhost.setBackend(0, tap), ['VHOST_NET_SET_BACKEND', 'EFAULT', notReady])
    })

    it('VHOST_NET_SET_BACKEND is refused for what is no tap queue, and one of no device', () => {
      prepare()
      const other = opened.own(EventFd.create())
      const closed = closedEvent()
      for (const { native } of [other, closed]) {
        refused(() => vhost.setBackend(0, asTap(native)), ['VHOST_NET_SET_BACKEND', 'ENOTSOCK', /not a tap queue/])
      }
      const unattached = binding().openDevice('/dev/net/tun')
      opened.add(() => binding().closeFd(unattached))
      refused(
        () => vhost.setBackend(0, asTap(unattached)),
        ['VHOST_NET_SET_BACKEND', 'EINVAL', /TUNSETIFF comes first/],
      )
    })
  })

  describe('the IOTLB', () => {
    const size = 4n << 20n
    const all = {
      type: VHOST_IOTLB.VHOST_IOTLB_UPDATE,
      iova: 0n,
      size,
      perm: VHOST_ACCESS.VHOST_ACCESS_RW,
      address: 0,
    } as const
    const none: Refusal = ['write', 'EFAULT', /has no IOTLB/]
    const accessPlatform = bit(VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM)

    for (const version of [1, 2]) {
      it(`messages of version ${version} say what is missing, an update provides it, an invalidation takes it back`, async () => {
        if (version === 2) vhost.setBackendFeatures(bit(VHOST_BACKEND_F.VHOST_BACKEND_F_IOTLB_MSG_V2))
        const { tap, driver } = prepare({ more: accessPlatform, iotlb: true })
        assert.equal(vhost.receiveIotlb(), undefined)
        refused(() => vhost.setBackend(0, tap), ['VHOST_NET_SET_BACKEND', 'EFAULT', /not set/])
        const miss = vhost.receiveIotlb()!
        const { used } = driver.pairs[0]!.rx.vring
        assert.equal(miss.type, VHOST_IOTLB.VHOST_IOTLB_MISS)
        assert.equal(miss.iova, BigInt(used))
        assert.equal(miss.perm, VHOST_ACCESS.VHOST_ACCESS_RO)

        vhost.sendIotlb({ ...all, memory })
        attach(tap)
        assert.ok(await moves(driver, 0))

        vhost.sendIotlb({ type: VHOST_IOTLB.VHOST_IOTLB_INVALIDATE, iova: 0n, size })
        const moved = moves(driver, 0)
        await soon('the worker misses what it had', () => vhost.receiveIotlb()?.type === VHOST_IOTLB.VHOST_IOTLB_MISS)
        vhost.sendIotlb({ ...all, memory })
        assert.ok(await moved)
      })
    }

    it('is there only with ACCESS_PLATFORM among the features', () => {
      refused(() => vhost.sendIotlb({ ...all, memory }), none)
      refused(() => vhost.sendIotlb({ type: VHOST_IOTLB.VHOST_IOTLB_INVALIDATE, iova: 0n, size }), none)
      assert.equal(vhost.receiveIotlb(), undefined)
    })

    it('refuses an update of no bytes, and one outside of memory', () => {
      vhost.setFeatures(features | accessPlatform)
      refused(() => vhost.sendIotlb({ ...all, size: 0n, memory }), ['write', 'EINVAL', /at least one byte/])
      const nothing = { type: VHOST_IOTLB.VHOST_IOTLB_INVALIDATE, iova: 0n, size: 0n } as const
      if (since(7, 0)) refused(() => vhost.sendIotlb(nothing), ['write', 'EFAULT', /the range is empty/])
      else vhost.sendIotlb(nothing)
      assert.throws(() => vhost.sendIotlb({ ...all, address: 4096, memory }), GuestMemoryError)
    })

    it('keeps memory mapped that the worker could still reach', () => {
      vhost.setFeatures(features | accessPlatform)
      const other = GuestMemory.allocate({ size: 4096, name: 'iotlb-only' })
      vhost.sendIotlb({ ...all, size: 4096n, memory: other })
      other.close()
      const mapped = () => readFileSync('/proc/self/maps', 'utf8').includes('iotlb-only')
      assert.equal(mapped(), true)
      vhost.close()
      assert.equal(mapped(), false)
    })
  })

  describe('the probe', () => {
    it('says what this kernel has, and leaves nothing behind', async () => {
      assert.deepEqual(probeVhostNet(), {
        features: known | knownAbove,
        backendFeatures: 2n,
        featuresArray: since(6, 17),
        forkFromOwner: hasForkFromOwner,
        busyloopTimeout: true,
        workers: false,
        vringEndian: false,
      })
      await soon('its worker ends', () => vhostWorkers().length === workersBefore.length)
    })

    it('says why the device cannot be opened', () => {
      refused(() => probeVhostNet({ path: '/dev/vhost-nothing' }), ['open', 'ENOENT', /modprobe vhost_net/])
    })
  })
})
