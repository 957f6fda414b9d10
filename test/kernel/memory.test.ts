// Guest memory as the kernel has it: regions with holes that come and go under running rings, and what they are made of.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, existsSync, ftruncateSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { vringSizes } from '../../lib/abi/virtio.ts'
import { VhostNetBackend } from '../../lib/backend/index.ts'
import { Driver } from '../../lib/driver/index.ts'
import { GuestMemoryError, SystemCallError } from '../../lib/errors.ts'
import { EventFd, watchReadable } from '../../lib/event/index.ts'
import { VhostNet } from '../../lib/host/index.ts'
import { GuestMemory, type MemoryRegion, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { ALL_RING_FEATURES, type Flow, TwoNics, VERSION_1 } from '../support/two-nics.ts'

const KiB = 2 ** 10
const MiB = 2 ** 20
const GiB = 2 ** 30
const ifname = 'mem0'
const name = 'memory-under-test'

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

describe('guest memory under vhost', function () {
  this.timeout(60_000)
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
      assert.deepEqual(await fault, [{ pair: 0, ring: 'tx', errors: 1 }])
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

    it('of 1 GiB are refused where none are reserved or there are no such pages, with what to do', () => {
      const directory = '/sys/kernel/mm/hugepages/hugepages-1048576kB'
      const allocate = () => GuestMemory.allocate({ size: GiB, backing: 'hugetlb', pageSize: GiB })
      if (existsSync(directory)) {
        assert.throws(allocate, isNoMemory(new RegExp(`vm\\.nr_hugepages, or ${directory}/nr_hugepages`)))
      } else {
        assert.throws(allocate, { code: 'ENODEV', syscall: 'memfd_create', hint: /no pages of 1024 MiB/ })
      }
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

    it('is advised of transparent huge pages', () => {
      for (const [thp, flag] of [
        [true, 'hg'],
        [false, 'nh'],
      ] as const) {
        using _ = GuestMemory.allocate({ size: 4 * MiB, name, thp })
        const { range } = mappings()[0]!
        const entry = readFileSync('/proc/self/smaps', 'utf8').split(`${range} `)[1]!
        assert.ok(/^VmFlags: (.*)$/m.exec(entry)![1]!.split(' ').includes(flag))
      }
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
