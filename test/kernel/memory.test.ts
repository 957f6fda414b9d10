// Guest memory as the kernel has it: regions with holes that come and go under running rings, and what they are made of.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { F_SEAL, MFD_HUGE_SHIFT, MFD_HUGETLB } from '../../lib/abi/mman.ts'
import { vringSizes } from '../../lib/abi/virtio.ts'
import { type RingFault, VhostNetBackend } from '../../lib/backend/index.ts'
import { binding } from '../../lib/binding/index.ts'
import { Driver } from '../../lib/driver/index.ts'
import { GuestMemoryError, SystemCallError } from '../../lib/errors.ts'
import { EventFd, watchReadable } from '../../lib/event/index.ts'
import { VhostNet } from '../../lib/host/index.ts'
import { GuestMemory, type MemoryRegion, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { startScenario } from '../support/run-scenario.ts'
import { ALL_RING_FEATURES, type Flow, TwoNics, VERSION_1 } from '../support/two-nics.ts'

const KiB = 2 ** 10
const MiB = 2 ** 20
const GiB = 2 ** 30
const ifname = 'mem0'
const name = 'memory-under-test'
const SEALS = ['F_SEAL_SEAL', 'F_SEAL_SHRINK', 'F_SEAL_GROW'] as const

/** A mapping of the memfd called {@link name}. */
interface MapsEntry {
  /** `'7f0000000000-7f0000200000'` */
  range: string
  bytes: number
}

function mappings(): MapsEntry[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`/memfd:${name} `))
    .map((line) => {
      const range = line.split(' ', 1)[0]!
      const [from, to] = range.split('-').map((address) => Number.parseInt(address, 16))
      return { range, bytes: to! - from! }
    })
}

/** A line of the only such mapping's entry in smaps, in bytes. */
function smaps(field: string): number {
  const [{ range } = assert.fail('it is not mapped')] = mappings()
  const entry = readFileSync('/proc/self/smaps', 'utf8').split(`${range} `)[1]!
  return Number(new RegExp(`^${field}: +(\\d+) kB$`, 'm').exec(entry)![1]) * KiB
}

/** Waits until that many are left: what a view had is given back in a turn of the event loop. */
async function mapped(sizes: readonly number[]): Promise<void> {
  const deadline = AbortSignal.timeout(5000)
  const now = () => mappings().map(({ bytes }) => bytes)
  while (now().length !== sizes.length && !deadline.aborted) await setImmediate()
  const ascending = (list: readonly number[]) => list.toSorted((a, b) => a - b)
  assert.deepEqual(ascending(now()), ascending(sizes))
}

const setHugePages = (count: string | number): void => writeFileSync('/proc/sys/vm/nr_hugepages', `${count}`)
const tablesOf = (calls: readonly { name: string; args: readonly unknown[] }[]): number[] =>
  calls.filter((call) => call.name === 'vhostSetMemTable').map(({ args }) => (args[1] as unknown[]).length)

function bothWays({ a, b }: TwoNics, flow: Omit<Flow, 'from' | 'pair'>): Flow[] {
  return [a, b].flatMap((from) => from.driver.pairs.map((_, pair) => ({ from, pair, ...flow })))
}

describe('guest memory under vhost', () => {
  let closing: Teardown

  beforeEach(() => {
    closing = new Teardown()
  })

  afterEach(() => closing.run())

  /** A NIC of which nothing runs yet. */
  async function openNic(
    regions: readonly MemoryRegion[],
    queuePairs = 1,
  ): Promise<{ memory: NativeMemory; backend: VhostNetBackend }> {
    const memory = closing.own(GuestMemory.allocate({ regions, name }))
    const backend = closing.own(await VhostNetBackend.open({ memory, queuePairs, tap: { ifname } }))
    return { memory, backend }
  }

  describe('in several regions', () => {
    const high = 5 * GiB
    const holes: readonly MemoryRegion[] = [
      { guestAddress: 0, size: 640 * KiB },
      { guestAddress: MiB, size: 2 * MiB },
    ]

    for (const [where, address] of [
      ['above 4 GiB, with holes below', high],
      ['at the top of what guests address, with holes below', 2 ** 52 - 64 * MiB],
    ] as const) {
      it(`carries traffic through rings and buffers ${where}`, async () => {
        using nics = await TwoNics.open({
          features: ALL_RING_FEATURES,
          queuePairs: 2,
          address,
          memory: (size) => GuestMemory.allocate({ regions: [...holes, { guestAddress: address, size }] }),
        })
        nics.startAll()
        await nics.transfer([
          ...bothWays(nics, { frames: 500, size: 60 }),
          ...bothWays(nics, { frames: 200, size: 1514 }),
        ])
        nics.assertConserved()
      })
    }

    it('gives the kernel as many as it takes, and refuses more before it asks', async () => {
      const regions = Array.from({ length: 64 }, (_, i) => ({ guestAddress: i * 8 * KiB, size: 4 * KiB }))
      const memory = closing.own(GuestMemory.allocate({ regions }))
      const vhost = closing.own(VhostNet.open())
      vhost.setOwner()
      const limit = Number(readFileSync('/sys/module/vhost/parameters/max_mem_regions', 'utf8'))
      assert.equal(limit, 64)
      vhost.setMemTable(memory)
      memory.addRegion({ guestAddress: GiB, size: 4 * KiB })
      await recording((record) => {
        assert.throws(
          () => vhost.setMemTable(memory),
          (error: unknown) =>
            error instanceof GuestMemoryError &&
            error.code === 'ERR_GPA_TOO_MANY_REGIONS' &&
            /max_mem_regions/.test(error.hint!),
        )
        assert.deepEqual(record.calls, [])
      })
    })

    it('takes no region too many for a queue pair that has the table', async () => {
      const regions = Array.from({ length: 64 }, (_, i) => ({ guestAddress: i * MiB, size: MiB / 2 }))
      const { memory, backend } = await openNic(regions)
      const driver = Driver.create({ memory, features: VERSION_1, queueSize: 16, bufferSize: 2048 })
      closing.add(() => driver.destroy())
      const { rx, tx } = driver.pairs[0]!
      backend.start(0, { features: VERSION_1, rx: rx.vring, tx: tx.vring })
      assert.throws(() => memory.addRegion({ guestAddress: GiB, size: MiB }), { code: 'ERR_GPA_TOO_MANY_REGIONS' })
      assert.equal(memory.regions.length, 64)
      await mapped(regions.map(({ size }) => size))
      assert.ok(await moves(driver, 0))
    })
  })

  describe('larger than 4 GiB', () => {
    const size = 6 * GiB
    const address = 5 * GiB + 64 * KiB

    it('carries traffic through rings and buffers beyond 4 GiB of one mapping', async () => {
      using nics = await TwoNics.open({
        features: ALL_RING_FEATURES,
        queuePairs: 2,
        address,
        memory: () => GuestMemory.allocate({ size }),
      })
      nics.startAll()
      await nics.transfer([
        ...bothWays(nics, { frames: 300, size: 60 }),
        ...bothWays(nics, { frames: 100, size: 1514 }),
      ])
      nics.assertConserved()
    })

    it('is read, written and seen at its very end', () => {
      const memory = closing.own(GuestMemory.allocate({ size, name }))
      const there = size - 16
      memory.write(
        there,
        Uint8Array.from({ length: 16 }, (_, i) => i + 1),
      )
      const window = memory.window(there, 16)
      assert.deepEqual([...window], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
      window[15] = 99
      // What 32 bits would have made of the address.
      for (const [at, byte] of [
        [size - 1, 99],
        [2 * GiB - 1, 0],
        [4 * GiB - 1, 0],
      ] as const) {
        const read = new Uint8Array(1)
        memory.read(at, read)
        assert.equal(read[0], byte)
      }
      assert.equal(memory.hostAddress(there, 16) - memory.hostAddress(0, 1), BigInt(there))
      assert.throws(() => memory.window(there, 17), { code: 'ERR_GPA_RANGE' })
      assert.equal(memory.window(size - GiB, GiB).byteLength, GiB)
    })
  })

  describe('that somebody else made', () => {
    /** A memfd's number, which is the test's until it is taken over. */
    const memfd = (bytes: number, seals = 0): number => {
      const fd = binding().memfdCreate(name, 0)
      binding().ftruncate(fd, bytes)
      if (seals !== 0) binding().addSeals(fd, seals)
      return binding().detachFd(fd)
    }
    const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`)

    it('carries traffic in a memfd, from beyond 4 GiB of it on, and takes the fd over', async () => {
      using nics = await TwoNics.open({
        features: ALL_RING_FEATURES,
        address: 8 * GiB,
        memory: (bytes) => {
          const fd = memfd(6 * GiB)
          const size = Math.ceil(bytes / 4096) * 4096
          const memory = GuestMemory.adopt({
            regions: [
              { guestAddress: 0, size: MiB, fd },
              { guestAddress: 8 * GiB, size, fd, offset: 5 * GiB },
            ],
          })
          assert.equal(isOpen(fd), false)
          return memory
        },
      })
      nics.startAll()
      await nics.transfer(bothWays(nics, { frames: 300, size: 1514 }))
      nics.assertConserved()
    })

    it('is the same memory as its giver’s, and its seals are told', () => {
      const { F_SEAL_SHRINK, F_SEAL_GROW } = F_SEAL
      const fd = memfd(3 * 4096, F_SEAL_SHRINK | F_SEAL_GROW)
      const giver = openSync(`/proc/self/fd/${fd}`, 'r+')
      closing.add(() => closeSync(giver))
      const memory = closing.own(GuestMemory.adopt({ regions: [{ guestAddress: GiB, size: 8192, fd, offset: 4096 }] }))
      writeSync(giver, Uint8Array.of(7, 8), 0, 2, 4096)
      const bytes = new Uint8Array(2)
      memory.read(GiB, bytes)
      assert.deepEqual([...bytes], [7, 8])
      memory.write(GiB + 8191, Uint8Array.of(9))
      assert.equal(readSync(giver, bytes, 0, 1, 3 * 4096 - 1), 1)
      assert.equal(bytes[0], 9)
      assert.deepEqual(JSON.parse(JSON.stringify(memory.inspect())), {
        closed: false,
        regions: [
          { guestAddress: GiB, size: 8192, backing: 'fd', pageSize: 4096, seals: ['F_SEAL_SHRINK', 'F_SEAL_GROW'] },
        ],
        pins: [],
        followers: 0,
      })
    })

    it('is of huge pages where the file is', () => {
      const before = readFileSync('/proc/sys/vm/nr_hugepages', 'utf8')
      closing.add(() => setHugePages(before))
      setHugePages(2)
      const huge = (): number => {
        const fd = binding().memfdCreate(name, MFD_HUGETLB + 21 * 2 ** MFD_HUGE_SHIFT)
        binding().ftruncate(fd, 4 * MiB)
        return binding().detachFd(fd)
      }
      const fd = huge()
      closing.add(() => closeSync(fd))
      const region = { guestAddress: 0, size: 2 * MiB, fd, offset: 2 * MiB }
      assert.throws(() => GuestMemory.adopt({ regions: [{ ...region, size: 4096 }] }), { code: 'ERR_OPTION_RANGE' })
      assert.throws(() => GuestMemory.adopt({ regions: [{ ...region, offset: 4096 }] }), { code: 'ERR_OPTION_RANGE' })
      assert.ok(isOpen(fd))
      const memory = closing.own(GuestMemory.adopt({ regions: [{ ...region, fd: huge() }] }))
      assert.equal(memory.inspect().regions[0]!.pageSize, 2 * MiB)
      assert.equal(smaps('KernelPageSize'), 2 * MiB)
    })

    for (const [what, fdOf, change, expected] of [
      ['a file that is too short', () => memfd(8191), {}, { code: 'ERR_GPA_RANGE', message: /has 8191 bytes/ }],
      ['an offset behind its end', () => memfd(8192), { offset: 4096 }, { code: 'ERR_GPA_RANGE' }],
      ['an offset that is no page’s', () => memfd(3 * 4096), { offset: 4095 }, { code: 'ERR_OPTION_RANGE' }],
      ['a file that was not opened for writing', () => openSync('/proc/self/exe', 'r'), {}, { code: 'EACCES' }],
      ['a file sealed against writing', () => memfd(8192, F_SEAL.F_SEAL_WRITE), {}, { code: 'EPERM' }],
      ['what is no file', () => EventFd.create().detach(), {}, { code: 'ERR_GPA_RANGE' }],
    ] as readonly [string, () => number, object, object][]) {
      it(`is refused and left to its giver: ${what}`, () => {
        const good = memfd(8192)
        const fd = fdOf()
        closing.add(() => [good, fd].forEach(closeSync))
        const regions = [
          { guestAddress: 0, size: 8192, fd: good },
          { guestAddress: MiB, size: 8192, fd, ...change },
        ]
        assert.throws(() => GuestMemory.adopt({ regions }), expected)
        assert.deepEqual([good, fd].map(isOpen), [true, true])
        assert.deepEqual(mappings(), [])
      })
    }

    it('is refused where the fd is closed', () => {
      const fd = memfd(4096)
      closeSync(fd)
      assert.throws(() => GuestMemory.adopt({ regions: [{ guestAddress: 0, size: 4096, fd }] }), {
        code: 'EBADF',
        message: new RegExp(`memory fd ${fd}`),
      })
    })

    it('is added to running rings and removed, and left to its giver where a ring cannot take it', async () => {
      const { memory, backend } = await openNic([{ guestAddress: 0, size: 4 * MiB }])
      const driver = Driver.create({ memory, features: VERSION_1, queueSize: 16 })
      closing.add(() => driver.destroy())
      const { rx, tx } = driver.pairs[0]!
      backend.start(0, { features: VERSION_1, rx: rx.vring, tx: tx.vring })
      const fd = memfd(2 * MiB)
      const region = { guestAddress: GiB, size: 2 * MiB, fd }
      await recording((record) => {
        record.failWhen(({ name }) => name === 'vhostSetMemTable')
        assert.throws(() => memory.addRegion(region), { syscall: 'VHOST_SET_MEM_TABLE' })
      })
      assert.ok(isOpen(fd))
      memory.addRegion(region)
      assert.equal(isOpen(fd), false)
      memory.addRegion({ guestAddress: 2 * GiB, buffer: new SharedArrayBuffer(64 * KiB) })
      assert.deepEqual(
        memory.inspect().regions.map(({ backing }) => backing),
        ['memfd', 'fd', 'buffer'],
      )
      memory.removeRegion(GiB)
      await mapped([4 * MiB])
      memory.removeRegion(2 * GiB)
      assert.ok(await moves(driver, 0))
    })

    it('has nothing that a further region would be made of', () => {
      const memory = closing.own(
        GuestMemory.adopt({ regions: [{ guestAddress: 0, buffer: new SharedArrayBuffer(4096) }] }),
      )
      assert.throws(() => memory.addRegion({ guestAddress: MiB, size: 4096 }), { code: 'ERR_OPTION_CONFLICT' })
    })

    it('is a SharedArrayBuffer, whose bytes are those of the memory, and whose windows end with it', () => {
      const buffer = new SharedArrayBuffer(64 * KiB)
      const memory = closing.own(GuestMemory.adopt({ regions: [{ guestAddress: MiB, buffer }] }))
      const bytes = new Uint8Array(buffer)
      bytes[4095] = 5
      const window = memory.window(MiB, 64 * KiB)
      assert.equal(window[4095], 5)
      window[0] = 6
      assert.equal(bytes[0], 6)
      memory.close()
      assert.equal(window.byteLength, 0)
      assert.equal(bytes[0], 6)
    })

    for (const kind of ['buffer', 'address']) {
      it(`is kept for as long as a vhost fd can see it, and no longer: ${kind}`, async () => {
        const { ended } = startScenario('borrowed-memory', [kind], ['--expose-gc'])
        const { status, output, stderr } = await ended
        assert.equal(status, 0, stderr)
        assert.deepEqual(output, {
          running: true,
          memoryClosed: true,
          driverClosed: true,
          backendClosed: false,
          moved: [true, true],
          // The object that stood for another addon's, which nobody closed.
          warnings: kind === 'address' ? ['4194304 bytes of guest memory was collected without close()'] : [],
        })
      })
    }
  })

  describe('whose regions come and go', () => {
    it('loses no frame of two NICs that talk all the while', async () => {
      const other = { guestAddress: 0, size: MiB }
      using nics = await TwoNics.open({
        features: ALL_RING_FEATURES,
        queuePairs: 2,
        address: 4 * GiB,
        memory: (size) => GuestMemory.allocate({ regions: [{ guestAddress: 4 * GiB, size }] }),
      })
      const memories = [nics.a.memory, nics.b.memory]
      nics.startAll()
      const frames = 2000
      const total = 4 * frames
      const changes = 40
      let done = 0
      const tables = await recording(async (record) => {
        await nics.transfer(bothWays(nics, { frames, size: 200 }), {
          progress: (received) => {
            // Between 1/42 and 41/42 of the traffic: there are frames under way at each change.
            if (done === changes || received * (changes + 2) < total * (done + 1)) return
            for (const memory of memories) {
              if (done % 2 === 0) memory.addRegion(done % 4 === 0 ? other : { ...other, guestAddress: 8 * GiB })
              else memory.removeRegion(done % 4 === 1 ? 0 : 8 * GiB)
            }
            done++
          },
        })
        return tablesOf(record.calls)
      })
      assert.equal(done, changes)
      // Each change reaches two NICs of two pairs.
      assert.deepEqual(
        tables,
        Array.from({ length: changes * 4 }, (_, i) => (Math.floor(i / 4) % 2 === 0 ? 2 : 1)),
      )
      nics.assertConserved()
    })

    it('reaches a running ring: a buffer in a new region is sent, one in a removed region is a fault', async () => {
      const high = { guestAddress: 6 * GiB, size: 64 * KiB }
      const { memory, backend } = await openNic([{ guestAddress: 0, size: 64 * KiB }])
      const num = 8
      const sizes = vringSizes(num)
      const ring = (at: number) => ({ num, desc: at, avail: at + sizes.desc, used: at + 4 * KiB })
      const [rx, tx] = [0, 32 * KiB].map((at) => ({
        ...ring(at),
        kick: closing.own(EventFd.create()),
        call: closing.own(EventFd.create()),
      }))
      backend.start(0, { features: VERSION_1, rx: rx!, tx: tx! })
      const { desc, avail, used, kick, call } = tx!
      const bytes = new DataView(memory.window(0, 64 * KiB).buffer)
      let sent = 0
      const send = (): void => {
        const at = desc + 16 * (sent % num)
        bytes.setBigUint64(at, BigInt(high.guestAddress), true)
        bytes.setUint32(at + 8, 12 + 60, true)
        bytes.setUint16(avail + 4 + 2 * (sent % num), sent % num, true)
        bytes.setUint16(avail + 2, ++sent, true)
        kick.signal()
      }
      const calls = new Promise<void>((resolve) => {
        const watch = watchReadable(
          call,
          () => {
            if (call.read() === 0n || bytes.getUint16(used + 2, true) === 0) return
            watch.stop()
            resolve()
          },
          { keepAlive: true },
        )
      })

      memory.addRegion(high)
      send()
      await calls
      assert.equal(bytes.getUint16(used + 2, true), 1)

      const fault = once(backend, 'fault', { signal: AbortSignal.timeout(5000) })
      // Nothing else keeps this process alive for it.
      const keepAlive = watchReadable(rx!.call, () => rx!.call.read(), { keepAlive: true })
      memory.removeRegion(high.guestAddress)
      send()
      const [{ message: _, ...found }] = (await fault) as [RingFault]
      assert.deepEqual(found, { pair: 0, ring: 'tx', errors: 1, cause: 'outside-memory' })
      keepAlive.stop()
      assert.equal(bytes.getUint16(used + 2, true), 1)
      await mapped([64 * KiB])
    })

    it('keeps the region of a running ring and of a driver, and asks nobody', async () => {
      const high = { guestAddress: 4 * GiB, size: 4 * MiB }
      const { memory, backend } = await openNic([{ guestAddress: 0, size: MiB }, high])
      const driver = Driver.create({ memory, features: VERSION_1, queueSize: 16, address: high.guestAddress })
      closing.add(() => driver.destroy())
      const { rx, tx } = driver.pairs[0]!
      backend.start(0, { features: VERSION_1, rx: rx.vring, tx: tx.vring })
      const refuses = (owner: RegExp): Promise<void> =>
        recording((record) => {
          assert.throws(() => memory.removeRegion(high.guestAddress), { code: 'ERR_GPA_IN_USE', message: owner })
          assert.deepEqual(record.calls, [])
        })
      await refuses(/a driver lies in it/)
      assert.ok(await moves(driver, 0))
      driver.destroy()
      await refuses(/the (descriptor table|available ring|used ring) of pair 0 (rx|tx) lies in it/)
      backend.stop(0)
      memory.removeRegion(high.guestAddress)
      await mapped([MiB])
    })

    it('unmaps a removed region once the last table let go of it, whether its pair runs or not', async () => {
      const low = { guestAddress: 0, size: 4 * MiB }
      const high = { guestAddress: 4 * GiB, size: 2 * MiB }
      const { memory, backend } = await openNic([low, high], 2)
      const driver = Driver.create({ memory, features: VERSION_1, queueSize: 16, queuePairs: 2 })
      closing.add(() => driver.destroy())
      const vhost = closing.own(VhostNet.open())
      vhost.setOwner()
      vhost.setMemTable(memory)
      for (const [pair, { rx, tx }] of driver.pairs.entries()) {
        backend.start(pair, { features: VERSION_1, rx: rx.vring, tx: tx.vring })
      }
      backend.stop(1)
      const window = memory.window(high.guestAddress, high.size)
      await mapped([low.size, high.size])
      memory.removeRegion(high.guestAddress)
      assert.equal(window.byteLength, 0)
      // The fd that is no queue pair's was not told.
      for (let turn = 0; turn < 10; turn++) await setImmediate()
      await mapped([low.size, high.size])
      vhost.setMemTable(memory)
      await mapped([low.size])
      assert.ok(await moves(driver, 0))
    })

    for (const [what, change] of [
      ['added', (memory: NativeMemory) => memory.addRegion({ guestAddress: 8 * GiB, size: 2 * MiB })],
      ['removed', (memory: NativeMemory) => memory.removeRegion(4 * GiB)],
    ] as const) {
      it(`stays as it was where one pair cannot reload, when a region is ${what}`, async () => {
        const regions = [
          { guestAddress: 0, size: 4 * MiB },
          { guestAddress: 4 * GiB, size: MiB },
        ]
        const { memory, backend } = await openNic(regions, 3)
        const driver = Driver.create({ memory, features: VERSION_1, queueSize: 16, queuePairs: 3 })
        closing.add(() => driver.destroy())
        for (const [pair, { rx, tx }] of driver.pairs.entries()) {
          backend.start(pair, { features: VERSION_1, rx: rx.vring, tx: tx.vring })
        }
        const window = memory.window(4 * GiB, 16)
        await recording((record) => {
          let reloads = 0
          record.failWhen((call) => call.name === 'vhostSetMemTable' && ++reloads === 3)
          assert.throws(
            () => change(memory),
            (error: unknown) => error instanceof SystemCallError && error.syscall === 'VHOST_SET_MEM_TABLE',
          )
          const changed = what === 'added' ? 3 : 1
          assert.deepEqual(tablesOf(record.calls), [changed, changed, changed, 2, 2])
        })
        assert.deepEqual(memory.regions, regions)
        assert.equal(window.byteLength, 16)
        await mapped(regions.map(({ size }) => size))
        for (const pair of [0, 1, 2]) assert.ok(await moves(driver, pair), `pair ${pair} moves`)
      })
    }
  })

  describe('of huge pages', () => {
    let before: string

    beforeEach(() => {
      before = readFileSync('/proc/sys/vm/nr_hugepages', 'utf8')
      closing.add(() => setHugePages(before))
    })

    const isNoMemory = (hint: RegExp) => (error: unknown) =>
      error instanceof SystemCallError && error.code === 'ENOMEM' && error.syscall === 'mmap' && hint.test(error.hint!)

    it('carries traffic, in pages of 2 MiB', async () => {
      setHugePages(16)
      const nics = closing.own(
        await TwoNics.open({
          features: ALL_RING_FEATURES,
          memory: (size) =>
            GuestMemory.allocate({
              size: Math.ceil(size / (2 * MiB)) * 2 * MiB,
              backing: 'hugetlb',
              name,
              prefault: true,
            }),
        }),
      )
      nics.startAll()
      await nics.transfer(bothWays(nics, { frames: 500, size: 1514 }))
      nics.assertConserved()
      assert.equal(smaps('KernelPageSize'), 2 * MiB)
    })

    it('come and go with regions, sealed, and are given back', async () => {
      setHugePages(2)
      const memory = closing.own(GuestMemory.allocate({ size: 2 * MiB, backing: 'hugetlb', name }))
      memory.addRegion({ guestAddress: 4 * GiB, size: 2 * MiB })
      memory.write(4 * GiB, Uint8Array.of(1))
      assert.throws(() => memory.addRegion({ guestAddress: 8 * GiB, size: 2 * MiB }), isNoMemory(/vm\.nr_hugepages/))
      memory.removeRegion(4 * GiB)
      await mapped([2 * MiB])
      memory.addRegion({ guestAddress: 8 * GiB, size: 2 * MiB })
    })

    it('are refused at once where none are reserved, with what to do', () => {
      setHugePages(0)
      const hint = /vm\.nr_hugepages, or \/sys\/kernel\/mm\/hugepages\/hugepages-2048kB\/nr_hugepages/
      assert.throws(() => GuestMemory.allocate({ size: 2 * MiB, backing: 'hugetlb' }), isNoMemory(hint))
    })

    const directory = '/sys/kernel/mm/hugepages/hugepages-1048576kB'

    it('of 1 GiB are refused where none are reserved or there are no such pages, with what to do', () => {
      const allocate = () => GuestMemory.allocate({ size: GiB, backing: 'hugetlb', pageSize: GiB })
      if (existsSync(directory)) {
        reserveGigantic(0)
        assert.throws(allocate, isNoMemory(new RegExp(`vm\\.nr_hugepages, or ${directory}/nr_hugepages`)))
      } else {
        assert.throws(allocate, { code: 'ENODEV', syscall: 'memfd_create', hint: /no pages of 1024 MiB/ })
      }
    })

    /** Asks for that many pages of 1 GiB, until the test is over, and returns how many the kernel has. */
    function reserveGigantic(pages: number): number {
      if (!existsSync(directory)) return 0
      const file = `${directory}/nr_hugepages`
      const before = readFileSync(file, 'utf8')
      closing.add(() => writeFileSync(file, before))
      writeFileSync(file, `${pages}`)
      return Number(readFileSync(file, 'utf8'))
    }

    // A GiB in one piece must be free: with `--memory 4096 --append "hugepagesz=1G hugepages=1"` the lab has one.
    it('of 1 GiB carry traffic where the kernel has one, and are refused where it could not get one', async () => {
      const existing = existsSync(directory) ? Number(readFileSync(`${directory}/nr_hugepages`, 'utf8')) : 0
      const pages = existing || reserveGigantic(1)
      const allocate = () => GuestMemory.allocate({ size: GiB, backing: 'hugetlb', pageSize: GiB, name })
      if (pages === 0) {
        const code = existsSync(directory) ? 'ENOMEM' : 'ENODEV'
        assert.throws(allocate, { name: 'SystemCallError', code, hint: /nr_hugepages|no pages of 1024 MiB/ })
        return
      }
      const memory = closing.own(allocate())
      const backend = closing.own(await VhostNetBackend.open({ memory, tap: { ifname } }))
      // The last MiB of the page.
      const driver = Driver.create({ memory, features: VERSION_1, queueSize: 16, address: GiB - MiB })
      closing.add(() => driver.destroy())
      const { rx, tx } = driver.pairs[0]!
      backend.start(0, { features: VERSION_1, rx: rx.vring, tx: tx.vring })
      assert.ok(await moves(driver, 0))
      assert.equal(smaps('KernelPageSize'), GiB)
      assert.deepEqual(memory.inspect().regions, [
        { guestAddress: 0, size: GiB, backing: 'hugetlb', pageSize: GiB, seals: [...SEALS] },
      ])
    })
  })

  describe('taken and kept', () => {
    it('is resident at once with prefault, and not without', () => {
      const size = 32 * MiB
      for (const prefault of [false, true]) {
        const memory = GuestMemory.allocate({ size, name, prefault })
        try {
          assert.equal(smaps('Rss'), prefault ? size : 0)
        } finally {
          memory.close()
        }
      }
    })

    /** What the kernel is told of a mapping: proc(5), VmFlags. */
    const flagsOf = ({ range }: MapsEntry): string[] => {
      const entry = readFileSync('/proc/self/smaps', 'utf8').split(`${range} `)[1]!
      return /^VmFlags: (.*)$/m.exec(entry)![1]!.split(' ')
    }

    it('is advised of transparent huge pages', () => {
      for (const [thp, flag] of [
        [true, 'hg'],
        [false, 'nh'],
      ] as const) {
        using _ = GuestMemory.allocate({ size: 4 * MiB, name, thp })
        assert.ok(flagsOf(mappings()[0]!).includes(flag))
      }
    })

    it('begins on a huge page where it is anonymous, and is of such pages, until it is closed', () => {
      // What was mapped before is not to decide where the next mapping lies.
      using _ = GuestMemory.allocate({ size: 12 * KiB, backing: 'anonymous' })
      using memory = GuestMemory.allocate({ size: 4 * MiB + 4 * KiB, backing: 'anonymous', thp: true })
      const address = binding().mappingAddress(memory.locate(0, 1).mapping)
      assert.equal(address % BigInt(2 * MiB), 0n)
      memory.write(4 * MiB - 1, Uint8Array.of(1))
      const range = `\n${address.toString(16)}-${(address + BigInt(4 * MiB + 4 * KiB)).toString(16)} `
      const [, entry] = readFileSync('/proc/self/smaps', 'utf8').split(range)
      assert.ok(entry !== undefined, `a mapping is ${range}`)
      assert.equal(/^AnonHugePages: +(\d+) kB$/m.exec(entry)![1], '2048')
      memory.close()
      assert.ok(!readFileSync('/proc/self/maps', 'utf8').includes(range), 'it is unmapped')
    })

    it('is not given to children, whose writes would take pages away from the worker', () => {
      using _ = GuestMemory.allocate({ size: MiB, name })
      assert.ok(flagsOf(mappings()[0]!).includes('dc'))
    })

    it('is what its file is, for whoever has that', () => {
      using memory = GuestMemory.allocate({ size: MiB, name })
      memory.write(MiB - 3, Uint8Array.of(1, 2, 3))
      const file = readFileSync(`/proc/self/map_files/${mappings()[0]!.range}`)
      assert.deepEqual([file.length, ...file.subarray(-4)], [MiB, 0, 1, 2, 3])
    })

    for (const backing of ['memfd', 'hugetlb'] as const) {
      it(`keeps its size, whoever has the file: ${backing}`, () => {
        const before = readFileSync('/proc/sys/vm/nr_hugepages', 'utf8')
        closing.add(() => setHugePages(before))
        setHugePages(4)
        const size = 2 * MiB
        const resize = (seal: boolean | undefined, to: number): void => {
          const memory = GuestMemory.allocate({ size, name, backing, ...(seal !== undefined && { seal }) })
          const fd = openSync(`/proc/self/map_files/${mappings()[0]!.range}`, 'r+')
          try {
            ftruncateSync(fd, to)
          } finally {
            closeSync(fd)
            memory.close()
          }
        }
        for (const to of [0, 2 * size]) {
          assert.throws(() => resize(undefined, to), { code: 'EPERM' })
          resize(false, to)
        }
      })
    }
  })
})
