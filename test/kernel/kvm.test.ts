// KVM's ioctls, and the doorbells and interrupts that are made of them, on VMs whose guest never runs.

import assert from 'node:assert/strict'
import { KVM_API_VERSION, KVM_CAP, KVM_CPUID_ENTRY2, KVM_PIT_SPEAKER_DUMMY, KVM_SREGS } from '../../lib/abi/kvm.ts'
import { SystemCallError } from '../../lib/errors.ts'
import { EventFd } from '../../lib/event/index.ts'
import { KvmVm } from '../../lib/host/index.ts'
import { GsiRoutes, KvmDoorbells, KvmInterrupts, KvmMessageInterrupts, KvmPins } from '../../lib/kvm/index.ts'
import { BufferMemory, GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioPciTransport } from '../../lib/transport/index.ts'
import { recording } from '../support/failing-binding.ts'
import { IdleApic } from '../support/idle-apic.ts'
import { VERSION_1 } from '../support/mmio-guest.ts'
import { TestBus } from '../support/pci-bus.ts'
import { PciGuest } from '../support/pci-guest.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { soon } from '../support/soon.ts'
import { VirtioRng } from '../support/virtio-rng.ts'

const refusal = (code: string, hint: RegExp) => (error: unknown) => {
  assert.ok(error instanceof SystemCallError)
  assert.equal(error.code, code)
  assert.match(error.hint ?? '', hint)
  return true
}

describe('KVM', () => {
  let all: Teardown
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
    all = new Teardown()
  })

  afterEach('nothing is left', async () => {
    all.run()
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  const vm = () => all.own(KvmVm.create())
  const eventfd = () => all.own(EventFd.create())

  describe('a VM', () => {
    it('is of the one version of the API that there is', () => {
      assert.equal(KvmVm.apiVersion(), KVM_API_VERSION)
    })

    it('says what it is capable of', () => {
      const { checkExtension } = KvmVm.prototype
      const made = vm()
      for (const capability of ['KVM_CAP_IRQFD', 'KVM_CAP_IOEVENTFD', 'KVM_CAP_IMMEDIATE_EXIT'] as const) {
        assert.equal(checkExtension.call(made, KVM_CAP[capability]), 1, capability)
      }
      assert.equal(made.checkExtension(0xffff), 0)
    })

    it('needs a node that is of KVM, and says which', () => {
      assert.throws(() => KvmVm.create({ path: '/dev/kvm-that-is-not' }), refusal('ENOENT', /kvm_intel or kvm_amd/))
      assert.throws(() => KvmVm.create({ path: '/dev/null' }), refusal('ENOTTY', /not of KVM/))
    })

    it('has its interrupt controllers and its timer once, and before its vCPUs', () => {
      const made = vm()
      made.createIrqchip()
      made.createPit2(KVM_PIT_SPEAKER_DUMMY)
      assert.throws(() => made.createPit2(0), refusal('EEXIST', /already/))
      assert.throws(() => made.createIrqchip(), refusal('EEXIST', /already/))
      const late = vm()
      all.own(late.createVcpu(0))
      assert.throws(() => late.createIrqchip(), refusal('EINVAL', /before the first vCPU/))
    })

    it('has all regions of a memory, or none of them', () => {
      const made = vm()
      const low = all.own(
        GuestMemory.allocate({
          regions: [
            { guestAddress: 0, size: 1 << 20 },
            { guestAddress: 1 << 24, size: 1 << 20 },
          ],
        }),
      )
      const other = all.own(
        GuestMemory.allocate({
          regions: [
            { guestAddress: 1 << 22, size: 1 << 20 },
            { guestAddress: 1 << 24, size: 1 << 20 },
          ],
        }),
      )
      made.addMemory(low)
      assert.throws(() => made.addMemory(other), refusal('EEXIST', /overlap/))
      const between = all.own(GuestMemory.allocate({ regions: [{ guestAddress: 1 << 22, size: 1 << 20 }] }))
      made.addMemory(between)
    })

    it('has each vCPU once', () => {
      const made = vm()
      all.own(made.createVcpu(0))
      assert.throws(() => made.createVcpu(0), refusal('EEXIST', /of this id/))
    })
  })

  describe('a vCPU', () => {
    it('has the registers that it was given', () => {
      const vcpu = all.own(vm().createVcpu(0))
      vcpu.setRegisters({ rip: 0x1234n, rflags: 2n, r15: 2n ** 64n - 1n })
      const { rip, rflags, r15, rax } = vcpu.getRegisters()
      assert.deepEqual({ rip, rflags, r15, rax }, { rip: 0x1234n, rflags: 2n, r15: 2n ** 64n - 1n, rax: 0n })
    })

    it('begins in real mode at the reset vector', () => {
      const vcpu = all.own(vm().createVcpu(0))
      const view = new DataView(vcpu.getSystemRegisters().buffer)
      assert.equal(view.getBigUint64(KVM_SREGS.segments.cs, true), 0xffff_0000n)
      assert.equal(view.getBigUint64(KVM_SREGS.registers.cr0, true) & 1n, 0n)
      assert.equal(vcpu.getRegisters().rip, 0xfff0n)
    })

    it('takes what the processor and KVM can show', () => {
      const entries = KvmVm.supportedCpuid()
      assert.ok(entries.length > 0 && entries.length % KVM_CPUID_ENTRY2.size === 0)
      all.own(vm().createVcpu(0)).setCpuid(entries)
    })
  })

  describe('doorbells', () => {
    const doorbell = { address: 0xd000_0050, width: 4, value: 3 }

    it('are apart by address, width and value', () => {
      const made = vm()
      made.createIrqchip()
      const doorbells = new KvmDoorbells(made)
      const kick = eventfd()
      const others = [
        doorbell,
        { ...doorbell, value: 4 },
        { ...doorbell, address: 0xd000_0054 },
        { address: 0xd100_0000 },
      ]
      for (const each of others) doorbells.assign(each, kick)
      assert.throws(() => doorbells.assign(doorbell, eventfd()), refusal('EEXIST', /same writes/))
      for (const each of others) doorbells.deassign(each, kick)
      assert.throws(() => doorbells.deassign(doorbell, kick), refusal('ENOENT', /No eventfd/))
    })

    it('refuse a value without a width', () => {
      const doorbells = new KvmDoorbells(vm())
      assert.throws(() => doorbells.assign({ address: 0, value: 1 }, eventfd()), refusal('EINVAL', /no value to match/))
    })
  })

  const apic = () => {
    const idle = all.own(new IdleApic())
    const requested = (vector: number): boolean => idle.requested(vector)
    return { made: idle.vm, requested, acknowledge: () => idle.acknowledge() }
  }

  describe('interrupts', () => {
    const VECTOR = 0x41
    const GSI = 24

    /** With a message that is routed to it. */
    const guest = () => {
      const { made, requested, acknowledge } = apic()
      const routes = new GsiRoutes(made, { first: GSI, count: 2 })
      const [gsi] = routes.allocate(1) as [number]
      routes.setMessage(gsi, { address: 0xfee0_0000n, data: VECTOR })
      routes.commit()
      const interrupts = new KvmInterrupts(made, [gsi])
      return { interrupts, routes, gsi, requested: () => requested(VECTOR), acknowledge }
    }

    // A message is delivered within the write that signals; one that had been signalled before, by a thread of the kernel.

    it('reach the local APIC', async () => {
      const { interrupts, requested } = guest()
      const call = eventfd()
      interrupts.connect(0, call)
      assert.equal(requested(), false)
      call.signal()
      assert.equal(requested(), true)
    })

    it('go where the table says since it was last set, and nowhere without a message', async () => {
      const { interrupts, routes, gsi, requested, acknowledge } = guest()
      const call = eventfd()
      interrupts.connect(0, call)
      routes.setMessage(gsi, undefined)
      call.signal()
      assert.equal(requested(), true, 'not yet set')
      acknowledge()
      routes.commit()
      call.signal()
      assert.equal(requested(), false)
      routes.setMessage(gsi, { address: 0xfee0_0000n, data: VECTOR })
      routes.commit()
      call.signal()
      assert.equal(requested(), true)
    })

    it('have GSIs of the range they were given, the lowest first, and no others', () => {
      const { routes, gsi } = guest()
      assert.equal(gsi, GSI)
      assert.throws(() => routes.allocate(2), { name: 'InvalidOptionError', code: 'ERR_OPTION_RANGE' })
      assert.deepEqual(routes.allocate(1), [GSI + 1])
      routes.release([GSI, GSI])
      assert.throws(() => routes.setMessage(GSI, undefined), { code: 'ERR_OPTION_RANGE' })
      assert.deepEqual(routes.allocate(1), [GSI])
    })

    it('are as many in one table, beside the pins, as 128 queue pairs have vectors', () => {
      const made = vm()
      made.createIrqchip()
      const table = new GsiRoutes(made)
      const gsis = table.allocate(258)
      for (const [i, each] of gsis.entries()) table.setMessage(each, { address: 0xfee0_0000n, data: i })
      table.commit()
      for (const bytes of [47, 49]) {
        assert.throws(() => new GsiRoutes(made, { others: new Uint8Array(bytes) }), { code: 'ERR_OPTION_RANGE' })
      }
    })

    it('of eventfds that were signalled before they were connected come, once', async () => {
      const { interrupts, requested, acknowledge } = guest()
      const call = eventfd()
      call.signal(3n)
      interrupts.connect(0, call)
      await soon('the interrupt', requested)
      acknowledge()
      interrupts.mask(0, true)
      assert.equal(interrupts.pending(0), false)
    })

    it('of several eventfds share a vector', () => {
      const { interrupts, requested, acknowledge } = guest()
      const calls = [eventfd(), eventfd()]
      for (const call of calls) interrupts.connect(0, call)
      for (const call of calls) {
        call.signal()
        assert.equal(requested(), true)
        acknowledge()
      }
    })

    it('that are masked are pending, however often that is asked, and come when they are unmasked', async () => {
      const { interrupts, requested, acknowledge } = guest()
      const calls = [eventfd(), eventfd()] as const
      for (const call of calls) interrupts.connect(0, call)
      interrupts.mask(0, true)
      assert.equal(interrupts.pending(0), false)
      calls[1].signal()
      assert.deepEqual([interrupts.pending(0), interrupts.pending(0), requested()], [true, true, false])
      interrupts.mask(0, false)
      await soon('the interrupt', requested)
      assert.equal(interrupts.pending(0), false)
      acknowledge()
      interrupts.mask(0, true)
      assert.equal(interrupts.pending(0), false)
    })

    it('end when they are disconnected, masked or not; what is signalled then stays in the eventfd', () => {
      const { interrupts, requested } = guest()
      const calls = [eventfd(), eventfd()] as const
      for (const call of calls) interrupts.connect(0, call)
      interrupts.disconnect(0, calls[0])
      interrupts.mask(0, true)
      interrupts.disconnect(0, calls[1])
      interrupts.mask(0, false)
      for (const call of calls) {
        call.signal()
        assert.equal(requested(), false)
        assert.equal(call.read(), 1n)
      }
    })

    it('are refused for an eventfd that has its interrupt, and for a vector that is not there', () => {
      const { interrupts } = guest()
      const call = eventfd()
      interrupts.connect(0, call)
      assert.throws(() => interrupts.connect(0, call), refusal('EBUSY', /already/))
      assert.throws(() => interrupts.connect(1, eventfd()), { code: 'ERR_OPTION_RANGE' })
    })
  })

  describe('interrupts that are messages', () => {
    const message = (data: number, address = 0xfee0_0000n) => ({ address, data })
    const device = (vectors = 4) => {
      const cpu = apic()
      const routes = new GsiRoutes(cpu.made)
      return { ...cpu, routes, interrupts: new KvmMessageInterrupts(cpu.made, routes, vectors) }
    }

    it('are what the guest made of each vector, with the next commit', () => {
      const { interrupts, requested } = device()
      const calls = [eventfd(), eventfd()] as const
      for (const [vector, call] of calls.entries()) {
        interrupts.mask(vector, true)
        interrupts.connect(vector, call)
        interrupts.setMessage(vector, message(0x50 + vector))
      }
      interrupts.commit()
      for (const vector of [0, 1]) interrupts.mask(vector, false)
      for (const [vector, call] of calls.entries()) {
        assert.equal(requested(0x50 + vector), false)
        call.signal()
        assert.equal(requested(0x50 + vector), true)
      }
    })

    it('go nowhere, and keep none of the others from their way, where a guest’s address is of no interrupt', async () => {
      const { interrupts, requested } = device()
      const [good, bad] = [eventfd(), eventfd()]
      interrupts.connect(0, good)
      interrupts.connect(1, bad)
      interrupts.setMessage(0, message(0x50))
      for (const address of [0n, 0x1000n, 0xfed0_0000n, 0x1_fee0_0000n, 0xff_fee0_0000n, 2n ** 64n - 4n]) {
        interrupts.setMessage(1, message(0x51, address))
        interrupts.commit()
        bad.signal()
      }
      good.signal()
      assert.deepEqual([requested(0x50), requested(0x51)], [true, false])
    })

    it('are neither lost nor invented however often a vector is masked, let go and given another message', async () => {
      const { interrupts, requested, acknowledge } = device(1)
      const call = eventfd()
      interrupts.connect(0, call)
      interrupts.mask(0, true)
      for (let flip = 0; flip < 1000; flip++) {
        const vector = 0x50 + (flip % 64)
        if (flip % 2 === 0) call.signal(BigInt(1 + (flip % 3)))
        assert.equal(interrupts.pending(0), flip % 2 === 0)
        interrupts.setMessage(0, message(vector))
        interrupts.commit()
        interrupts.mask(0, false)
        // One that waited is delivered by a thread of the kernel, and no other can be told apart from it but by waiting.
        if (flip % 2 === 0) await soon('the interrupt', () => requested(vector))
        interrupts.mask(0, true)
        assert.equal(requested(vector), flip % 2 === 0)
        assert.equal(interrupts.pending(0), false)
        acknowledge()
      }
    })

    it('are as many as a table has room for beside the pins, and their GSIs come back, once', () => {
      const MOST = 4096 - 39
      const { made, routes, interrupts } = device(MOST)
      assert.throws(() => new KvmMessageInterrupts(made, routes, 1), { code: 'ERR_OPTION_RANGE' })
      for (let vector = 0; vector < MOST; vector++) interrupts.setMessage(vector, message(0x50))
      interrupts.commit()
      interrupts.close()
      interrupts.close()
      new KvmMessageInterrupts(made, routes, MOST).close()
      assert.throws(() => interrupts.setMessage(0, undefined), { code: 'ERR_OPTION_RANGE' })
    })

    it('cost one change of the table where a device with 258 vectors starts, and a call for each queue', async () => {
      const { interrupts } = device(258)
      const rng = all.own(
        new VirtioRng(new BufferMemory(new ArrayBuffer(4096)), { queueSizes: new Array(257).fill(8) }),
      )
      const transport = all.own(new VirtioPciTransport(rng, { interrupts }))
      const machine = new TestBus()
      machine.bus.plug(1, transport.function)
      const guest = new PciGuest(machine.config(1), machine.memory)
      const calls = (body: () => void): Promise<Record<string, number>> =>
        recording((record) => {
          body()
          const counts: Record<string, number> = {}
          for (const { syscall } of record.steps) counts[syscall] = (counts[syscall] ?? 0) + 1
          return counts
        })
      const setUp = await calls(() => {
        guest.enableMsix()
        guest.begin()
        assert.ok(guest.accept(VERSION_1))
        guest.mapConfig(0)
        for (const { index } of rng.queues) assert.equal(guest.mapQueue(index, 1 + index), 1 + index)
      })
      assert.deepEqual([setUp.KVM_SET_GSI_ROUTING, setUp.KVM_IRQFD], [undefined, undefined])
      const start = await calls(() => guest.addStatus(4))
      assert.deepEqual([start.KVM_SET_GSI_ROUTING, start.KVM_IRQFD], [1, 258])
      const { table } = guest.msix
      const rewrite = await calls(() => {
        guest.maskVector(7, true)
        guest.memory.write(table + 16 * 7 + 8, 4, 0x99)
        guest.maskVector(7, false)
      })
      assert.deepEqual([rewrite.KVM_SET_GSI_ROUTING, rewrite.KVM_IRQFD], [1, 2])
    })
  })

  describe('a pin', () => {
    it('is held while any of its devices holds it', () => {
      const { made, requested, acknowledge } = apic()
      const GSI = 10
      // As a guest programs the I/O APIC: the pin is an interrupt of the level, with this vector.
      const routes = new GsiRoutes(made, { others: new Uint8Array(), first: GSI, count: 1 })
      const [gsi] = routes.allocate(1) as [number]
      routes.setMessage(gsi, { address: 0xfee0_0000n, data: 0x60 })
      routes.commit()
      const pins = new KvmPins(made, gsi)
      const [one, other] = [pins.share(), pins.share()]
      one.set(true)
      assert.equal(requested(0x60), true)
      acknowledge()
      // No edge follows from who holds it, too, or lets go while the other holds it.
      other.set(true)
      one.set(false)
      assert.equal(requested(0x60), false)
      other.set(false)
      other.set(true)
      assert.equal(requested(0x60), true)
    })

    it('needs interrupt controllers', () => {
      const pin = new KvmPins(vm(), 10).share()
      assert.throws(() => pin.set(true), refusal('ENXIO', /createIrqchip/))
    })
  })
})
