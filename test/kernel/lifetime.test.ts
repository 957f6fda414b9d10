// Handles closed twice, used afterwards, in any order or never.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { TC_H } from '../../lib/abi/pkt-sched.ts'
import { Burst, Driver } from '../../lib/driver/index.ts'
import { StateError } from '../../lib/errors.ts'
import { ConfigAddressRegister, EventFd, InterruptStatus } from '../../lib/event/index.ts'
import { GuestBus, KvmVcpu, KvmVm, LinkWatch, RtNetlink, Tap, VhostNet } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { bringUp, closeAll, failureOf, features, type Given, moves, open, start } from '../support/bring-up.ts'
import { diffSoon, resources } from '../support/resources.ts'

const ifname = 'life0'
const INGRESS = { kind: 'ingress', parent: TC_H.TC_H_INGRESS, handle: 0xffff_0000 } as const
const HTB_CLASS = { handle: 0x1_0001, parent: 0x1_0000, rate: 1e6, ceil: 1e6, burst: 2000, cburst: 2000, quantum: 2000 }
const POLICE = { parent: INGRESS.handle, priority: 1, rate: 1e6, burst: 1 << 16, mtu: 1 << 16 }

describe('the lifetime of handles', () => {
  let given: Given = {}
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
  })

  afterEach('nothing is left', async () => {
    closeAll(given)
    given = {}
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  describe('of one object', () => {
    /** Every way to touch an object, by the name of its method or property. */
    type Uses = Readonly<Record<string, (object: never) => unknown>>

    interface Kind {
      name: string
      make: () => { close: () => void; closed?: boolean; [Symbol.dispose]?: () => void }
      prototypes: readonly object[]
      uses: Uses
    }

    let memory: NativeMemory
    let event: EventFd

    before(() => {
      memory = GuestMemory.allocate({ size: 1 << 20 })
      event = EventFd.create()
    })

    after(() => {
      memory.close()
      event.close()
    })

    const addresses = { flags: 0, desc_user_addr: 0n, used_user_addr: 0n, avail_user_addr: 0n, log_guest_addr: 0n }
    const index = 1
    const ofFd: Uses = { fd: (handle: EventFd) => handle.fd, detach: (handle: EventFd) => handle.detach() }

    const kinds: readonly Kind[] = [
      {
        name: 'EventFd',
        make: () => EventFd.create(),
        prototypes: [EventFd.prototype],
        uses: { ...ofFd, signal: (event: EventFd) => event.signal(), read: (event: EventFd) => event.read() },
      },
      {
        name: 'Tap',
        make: () => Tap.open({ ifname }),
        prototypes: [Tap.prototype],
        uses: {
          ...ofFd,
          getFeatures: (tap: Tap) => tap.getFeatures(),
          getIff: (tap: Tap) => tap.getIff(),
          setQueue: (tap: Tap) => tap.setQueue(true),
          setOffload: (tap: Tap) => tap.setOffload(0),
          setVnetHdrSz: (tap: Tap) => tap.setVnetHdrSz(12),
          getVnetHdrSz: (tap: Tap) => tap.getVnetHdrSz(),
          setVnetLe: (tap: Tap) => tap.setVnetLe(true),
          getVnetLe: (tap: Tap) => tap.getVnetLe(),
          setSndbuf: (tap: Tap) => tap.setSndbuf(1),
          getSndbuf: (tap: Tap) => tap.getSndbuf(),
          setPersist: (tap: Tap) => tap.setPersist(true),
          setCarrier: (tap: Tap) => tap.setCarrier(true),
          setVnetBe: (tap: Tap) => tap.setVnetBe(true),
          getVnetBe: (tap: Tap) => tap.getVnetBe(),
          setOwner: (tap: Tap) => tap.setOwner(0),
          setGroup: (tap: Tap) => tap.setGroup(0),
          setLink: (tap: Tap) => tap.setLink(1),
          setDebug: (tap: Tap) => tap.setDebug(0),
          setNocsum: (tap: Tap) => tap.setNocsum(true),
          setTxFilter: (tap: Tap) => tap.setTxFilter({ addresses: [] }),
          attachFilter: (tap: Tap) => tap.attachFilter([{ code: 6, jt: 0, jf: 0, k: 0 }]),
          detachFilter: (tap: Tap) => tap.detachFilter(),
          getFilterLength: (tap: Tap) => tap.getFilterLength(),
          setSteeringEbpf: (tap: Tap) => tap.setSteeringEbpf(null),
          setFilterEbpf: (tap: Tap) => tap.setFilterEbpf(null),
          getDevNetNs: (tap: Tap) => tap.getDevNetNs(),
        },
      },
      {
        name: 'VhostNet',
        make: () => VhostNet.open(),
        prototypes: [VhostNet.prototype, Object.getPrototypeOf(VhostNet.prototype)],
        uses: {
          ...ofFd,
          getFeatures: (vhost: VhostNet) => vhost.getFeatures(),
          setFeatures: (vhost: VhostNet) => vhost.setFeatures(0n),
          getBackendFeatures: (vhost: VhostNet) => vhost.getBackendFeatures(),
          setOwner: (vhost: VhostNet) => vhost.setOwner(),
          resetOwner: (vhost: VhostNet) => vhost.resetOwner(),
          setMemTable: (vhost: VhostNet) => vhost.setMemTable(memory),
          setVringNum: (vhost: VhostNet) => vhost.setVringNum(0, 16),
          setVringAddr: (vhost: VhostNet) => vhost.setVringAddr(0, addresses),
          setVringBase: (vhost: VhostNet) => vhost.setVringBase(0, 0),
          getVringBase: (vhost: VhostNet) => vhost.getVringBase(0),
          setVringKick: (vhost: VhostNet) => vhost.setVringKick(0, null),
          setVringCall: (vhost: VhostNet) => vhost.setVringCall(0, null),
          setVringErr: (vhost: VhostNet) => vhost.setVringErr(0, null),
          setBackend: (vhost: VhostNet) => vhost.setBackend(0, null),
          getFeaturesArray: (vhost: VhostNet) => vhost.getFeaturesArray(),
          setFeaturesArray: (vhost: VhostNet) => vhost.setFeaturesArray(0n),
          setBackendFeatures: (vhost: VhostNet) => vhost.setBackendFeatures(0n),
          setForkFromOwner: (vhost: VhostNet) => vhost.setForkFromOwner(0),
          getForkFromOwner: (vhost: VhostNet) => vhost.getForkFromOwner(),
          setLogBase: (vhost: VhostNet) => vhost.setLogBase(memory, 0, 4096),
          setLogFd: (vhost: VhostNet) => vhost.setLogFd(null),
          setVringEndian: (vhost: VhostNet) => vhost.setVringEndian(0, 0),
          getVringEndian: (vhost: VhostNet) => vhost.getVringEndian(0),
          setVringBusyloopTimeout: (vhost: VhostNet) => vhost.setVringBusyloopTimeout(0, 0),
          getVringBusyloopTimeout: (vhost: VhostNet) => vhost.getVringBusyloopTimeout(0),
          newWorker: (vhost: VhostNet) => vhost.newWorker(),
          freeWorker: (vhost: VhostNet) => vhost.freeWorker(0),
          attachVringWorker: (vhost: VhostNet) => vhost.attachVringWorker(0, 0),
          getVringWorker: (vhost: VhostNet) => vhost.getVringWorker(0),
          sendIotlb: (vhost: VhostNet) => vhost.sendIotlb({ type: 3, iova: 0n, size: 4096n }),
          receiveIotlb: (vhost: VhostNet) => vhost.receiveIotlb(),
        },
      },
      {
        name: 'KvmVm',
        make: () => KvmVm.create(),
        prototypes: [KvmVm.prototype],
        uses: {
          ...ofFd,
          checkExtension: (vm: KvmVm) => vm.checkExtension(0),
          setTssAddr: (vm: KvmVm) => vm.setTssAddr(0xfffb_d000),
          setIdentityMapAddr: (vm: KvmVm) => vm.setIdentityMapAddr(0xfffb_c000),
          createIrqchip: (vm: KvmVm) => vm.createIrqchip(),
          createPit2: (vm: KvmVm) => vm.createPit2(0),
          addMemory: (vm: KvmVm) => vm.addMemory(memory),
          setGsiRouting: (vm: KvmVm) => vm.setGsiRouting(new Uint8Array()),
          assignIrqfd: (vm: KvmVm) => vm.assignIrqfd(event, 5),
          deassignIrqfd: (vm: KvmVm) => vm.deassignIrqfd(event, 5),
          assignIoeventfd: (vm: KvmVm) => vm.assignIoeventfd({ address: 0 }, event),
          deassignIoeventfd: (vm: KvmVm) => vm.deassignIoeventfd({ address: 0 }, event),
          setIrqLine: (vm: KvmVm) => vm.setIrqLine(5, true),
          createVcpu: (vm: KvmVm) => vm.createVcpu(0),
        },
      },
      {
        name: 'KvmVcpu',
        make: () => {
          using vm = KvmVm.create()
          return vm.createVcpu(0)
        },
        prototypes: [KvmVcpu.prototype],
        uses: {
          ...ofFd,
          setCpuid: (vcpu: KvmVcpu) => vcpu.setCpuid(new Uint8Array()),
          getRegisters: (vcpu: KvmVcpu) => vcpu.getRegisters(),
          setRegisters: (vcpu: KvmVcpu) => vcpu.setRegisters({}),
          getSystemRegisters: (vcpu: KvmVcpu) => vcpu.getSystemRegisters(),
          setSystemRegisters: (vcpu: KvmVcpu) => vcpu.setSystemRegisters(new Uint8Array(312)),
          getLapic: (vcpu: KvmVcpu) => vcpu.getLapic(),
          setLapic: (vcpu: KvmVcpu) => vcpu.setLapic(new Uint8Array(1024)),
          inspect: (vcpu: KvmVcpu) => vcpu.inspect(),
          start: (vcpu: KvmVcpu) => vcpu.start(new GuestBus(), () => undefined),
        },
      },
      {
        name: 'InterruptStatus',
        make: () => new InterruptStatus(1),
        prototypes: [InterruptStatus.prototype],
        uses: {
          setStarted: (status: InterruptStatus) => status.setStarted(true),
          begin: (status: InterruptStatus) => status.begin(0),
          setUsed: (status: InterruptStatus) => status.setUsed(0, 1),
          end: (status: InterruptStatus) => status.end(0),
          configChanged: (status: InterruptStatus) => status.configChanged(),
          reset: (status: InterruptStatus) => status.reset(),
          read: (status: InterruptStatus) => status.read(),
          acknowledge: (status: InterruptStatus) => status.acknowledge(3),
        },
      },
      {
        name: 'ConfigAddressRegister',
        make: () => new ConfigAddressRegister(),
        prototypes: [ConfigAddressRegister.prototype],
        uses: {
          read: (address: ConfigAddressRegister) => address.read(4),
          write: (address: ConfigAddressRegister) => address.write(4, 0),
        },
      },
      {
        name: 'RtNetlink',
        make: () => RtNetlink.open(),
        prototypes: [RtNetlink.prototype],
        uses: {
          ...ofFd,
          getLink: (netlink: RtNetlink) => netlink.getLink({ index }),
          listLinks: (netlink: RtNetlink) => netlink.listLinks(),
          addLink: (netlink: RtNetlink) => netlink.addLink({ ifname, kind: 'dummy' }),
          setLink: (netlink: RtNetlink) => netlink.setLink(index, { up: true }),
          deleteLink: (netlink: RtNetlink) => netlink.deleteLink(index),
          listAddresses: (netlink: RtNetlink) => netlink.listAddresses(index),
          addAddress: (netlink: RtNetlink) => netlink.addAddress(index, { address: '10.0.0.1', prefixLength: 24 }),
          deleteAddress: (netlink: RtNetlink) =>
            netlink.deleteAddress(index, { address: '10.0.0.1', prefixLength: 24 }),
          addNeighbour: (netlink: RtNetlink) =>
            netlink.addNeighbour(index, { address: '10.0.0.2', mac: '02:00:00:00:00:02' }),
          deleteNeighbour: (netlink: RtNetlink) => netlink.deleteNeighbour(index, '10.0.0.2'),
          setBridge: (netlink: RtNetlink) => netlink.setBridge(index, { vlan_filtering: true }),
          setBridgePort: (netlink: RtNetlink) => netlink.setBridgePort(index, { isolated: true }),
          listBridgeVlans: (netlink: RtNetlink) => netlink.listBridgeVlans(index),
          addBridgeVlans: (netlink: RtNetlink) => netlink.addBridgeVlans(index, [{ vid: 7 }]),
          deleteBridgeVlans: (netlink: RtNetlink) => netlink.deleteBridgeVlans(index, [7]),
          listRoutes: (netlink: RtNetlink) => netlink.listRoutes(),
          addRoute: (netlink: RtNetlink) => netlink.addRoute(index, { address: '10.0.1.0', prefixLength: 24 }),
          deleteRoute: (netlink: RtNetlink) => netlink.deleteRoute(index, { address: '10.0.1.0', prefixLength: 24 }),
          listQdiscs: (netlink: RtNetlink) => netlink.listQdiscs(index),
          addQdisc: (netlink: RtNetlink) => netlink.addQdisc(index, INGRESS),
          deleteQdisc: (netlink: RtNetlink) => netlink.deleteQdisc(index, INGRESS),
          listHtbClasses: (netlink: RtNetlink) => netlink.listHtbClasses(index),
          addHtbClass: (netlink: RtNetlink) => netlink.addHtbClass(index, HTB_CLASS),
          listFilters: (netlink: RtNetlink) => netlink.listFilters(index, INGRESS.handle),
          addPolice: (netlink: RtNetlink) => netlink.addPolice(index, POLICE),
        },
      },
      {
        name: 'LinkWatch',
        make: () => LinkWatch.open(() => assert.fail('no link changes')),
        prototypes: [LinkWatch.prototype],
        uses: ofFd,
      },
      {
        name: 'NativeMemory',
        make: () => GuestMemory.allocate({ size: 4096 }),
        prototypes: [],
        uses: {
          read: (mine: NativeMemory) => mine.read(0, new Uint8Array(1)),
          write: (mine: NativeMemory) => mine.write(0, new Uint8Array(1)),
          window: (mine: NativeMemory) => mine.window(0, 1),
          locate: (mine: NativeMemory) => mine.locate(0, 1),
          hostAddress: (mine: NativeMemory) => mine.hostAddress(0, 1),
          memTable: (mine: NativeMemory) => mine.memTable(),
          addRegion: (mine: NativeMemory) => mine.addRegion({ guestAddress: 8192, size: 4096 }),
          removeRegion: (mine: NativeMemory) => mine.removeRegion(0),
          pin: (mine: NativeMemory) => mine.pin(0, 1, 'a ring'),
          follow: (mine: NativeMemory) => mine.follow(() => undefined),
        },
      },
    ]

    const isClosed = (error: unknown): boolean =>
      error instanceof StateError && error.code === 'ERR_CLOSED' && /closed/.test(error.message)

    for (const { name, make, prototypes, uses } of kinds) {
      it(`is closed once and for all: ${name}`, () => {
        const object = make()
        assert.equal(object.closed, false)
        object.close()
        assert.equal(object.closed, true)
        object.close()
        object[Symbol.dispose]!()
        for (const [use, touch] of Object.entries(uses)) {
          assert.throws(() => touch(object as never), isClosed, `${name}.${use} after close`)
        }
      })

      it(`has no method that this test forgot: ${name}`, () => {
        // Those that make sense on a closed object, and what watchLinks opens is a socket of its own.
        const known = new Set([...Object.keys(uses), 'constructor', 'close', 'call', 'assertLog', 'watchLinks'])
        const methods = prototypes.flatMap((prototype) => Object.getOwnPropertyNames(prototype))
        assert.deepEqual(
          methods.filter((method) => !known.has(method)),
          [],
        )
      })
    }

    it('is closed once and for all: a queue of a driver', async () => {
      const driver = Driver.create({ memory, features, queueSize: 2 })
      const { rx, tx } = driver.pairs[0]!
      assert.equal(driver.closed, false)
      const waiting = [failureOf(() => rx.readable()), failureOf(() => rx.readable())]
      await driver.close()
      assert.ok((await Promise.all(waiting)).every(isClosed), 'who waited is told')
      assert.equal(driver.closed, true)
      await driver.close()
      driver.destroy()
      await driver[Symbol.asyncDispose]()
      const burst = new Burst(1)
      for (const use of [
        () => rx.counters(),
        () => rx.receive(burst),
        () => rx.readable(),
        () => rx.release(new Uint32Array(1), 1),
        () => rx.releaseBurst(burst),
        () => tx.counters(),
        () => tx.inFlight,
        () => tx.allocate(new Uint32Array(1)),
        () => tx.send(burst),
        () => tx.reclaim(),
        () => tx.writable(),
        () => tx.drained(),
        () => tx.release(new Uint32Array(1), 1),
        () => tx.kick.signal(),
        () => tx.call.read(),
      ]) {
        assert.ok(isClosed(await failureOf(use)), `${use} after close`)
      }
    })

    it('is closed once and for all: a backend', async () => {
      const { backend, driver } = await open(given, { ifname })
      start({ backend, driver })
      backend.close()
      backend.close()
      backend[Symbol.dispose]()
      assert.equal(backend.running(0), false)
      assert.ok(isClosed(await failureOf(() => start({ backend, driver }))))
      assert.throws(() => backend.stop(0), { name: 'StateError', code: 'ERR_NOT_ACTIVE' })
    })

    it('gives its fd away and forgets it', () => {
      const event = EventFd.create()
      const number = event.detach()
      assert.equal(event.closed, true)
      event.close()
      const again = EventFd.fromFd(number)
      again.signal(2n)
      assert.equal(again.read(), 2n)
      again.close()
    })

    it('refuses an fd that is closed or of another kind, and leaves it to its owner', () => {
      const event = EventFd.create()
      const number = event.fd
      assert.throws(() => Tap.fromFd(number), { name: 'SystemCallError', syscall: 'TUNGETIFF' })
      event.signal()
      assert.equal(event.read(), 1n)
      event.close()
      assert.throws(() => EventFd.fromFd(number), { code: 'EBADF', hint: /not open in this process/ })
    })

    it('refuses a backend that is no tap', () => {
      const vhost = VhostNet.open()
      const event = EventFd.create()
      try {
        vhost.setOwner()
        vhost.setMemTable(memory)
        assert.throws(() => vhost.setBackend(0, event as unknown as Tap), { code: 'ENOTSOCK', hint: /not a tap queue/ })
      } finally {
        event.close()
        vhost.close()
      }
    })
  })

  describe('in an odd order', () => {
    const mapped = (): boolean => /memfd:vhost-net-memory/.test(readFileSync('/proc/self/maps', 'utf8'))

    it('memory closed first is out of reach for us, and stays for the rings until they are closed', async () => {
      const { memory, backend, driver, netlink } = await bringUp(given, { ifname })
      const { tx } = driver.pairs[0]!
      const view = memory.window(0, 4096)
      const offsets = new Uint32Array(1)
      assert.equal(tx.allocate(offsets), 1)
      memory.close()
      assert.equal(view.byteLength, 0)
      assert.equal(view.buffer.byteLength, 0)
      assert.equal(tx.pool.byteLength, 0)
      const burst = new Burst(1)
      burst.add(offsets[0]!, 12 + 60)
      assert.equal(tx.send(burst), 1)
      await tx.drained(AbortSignal.timeout(5000))
      assert.equal(tx.counters().used, 1)
      driver.destroy()
      // What detached views had is given back in the meantime.
      for (let turn = 0; turn < 10; turn++) await setImmediate()
      assert.ok(mapped(), 'the worker still reaches it')
      backend.close()
      netlink.close()
      // A detached view lets go of it in a later turn of the event loop.
      const deadline = Date.now() + 2000
      while (mapped() && Date.now() < deadline) await setImmediate()
      assert.equal(mapped(), false)
    })

    it('memory closed before a pair starts is refused', async () => {
      const { memory, backend, driver } = await open(given, { ifname })
      memory.close()
      const error = await failureOf(() => start({ backend, driver }))
      assert.ok(error instanceof StateError)
      assert.equal(error.code, 'ERR_CLOSED')
    })

    it('a backend closed before an idle driver leaves it able to close', async () => {
      const { backend, driver } = await bringUp(given, { ifname })
      assert.ok(await moves(driver, 0))
      backend.close()
      await driver.close()
      assert.equal(driver.closed, true)
    })

    it('a backend closed before what was sent has left is told of, and everything is released', async () => {
      const { backend, driver } = await bringUp(given, { ifname })
      backend.close()
      const { tx } = driver.pairs[0]!
      const offsets = new Uint32Array(1)
      tx.allocate(offsets)
      const burst = new Burst(1)
      burst.add(offsets[0]!, 12 + 60)
      tx.send(burst)
      const error = await failureOf(() => driver.close({ drainTimeoutMs: 50 }))
      assert.ok(error instanceof StateError)
      assert.equal(error.code, 'ERR_NOT_DRAINED')
      assert.match(error.message, /pair 0 tx: 1/)
      assert.match(error.hint!, /Close the driver before the backend/)
      assert.equal(driver.closed, true)
    })

    it('a pair stopped and started again goes on where it stood', async () => {
      const { backend, driver } = await bringUp(given, { ifname })
      assert.ok(await moves(driver, 0))
      const bases = backend.stop(0)
      assert.equal(bases.tx, 1)
      const { rx, tx } = driver.pairs[0]!
      backend.start(0, { features, rx: { ...rx.vring, base: bases.rx }, tx: { ...tx.vring, base: bases.tx } })
      assert.ok(await moves(driver, 0))
      assert.equal(backend.stop(0).tx, 2)
    })
  })
})
