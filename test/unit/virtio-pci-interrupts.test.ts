// How a virtio device over PCI interrupts its guest, by MSI-X or by its pin, and how it is kicked wherever its registers
// are moved.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { PCI_COMMAND, PCI_HEADER, PCI_MSIX_FLAGS, PCI_STATUS } from '../../lib/abi/pci.ts'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { LocalEvents } from '../../lib/driver/index.ts'
import type { Doorbell, EventFd } from '../../lib/event/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { VirtioPciTransport } from '../../lib/transport/index.ts'
import { featureSet, type VirtioDeviceOptions } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { VERSION_1 } from '../support/mmio-guest.ts'
import { NotedMessages, NotedPin, TestBus } from '../support/pci-bus.ts'
import { PciGuest, STRUCTURES } from '../support/pci-guest.ts'
import { soon } from '../support/soon.ts'
import { VirtioRng } from '../support/virtio-rng.ts'

const { PCI_MSIX_FLAGS_ENABLE: ENABLE, PCI_MSIX_FLAGS_MASKALL: MASKALL } = PCI_MSIX_FLAGS
const { PCI_COMMAND_MEMORY: MEMORY, PCI_COMMAND_MASTER: MASTER, PCI_COMMAND_INTX_DISABLE: INTX_DISABLE } = PCI_COMMAND
const { VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S
const NO_VECTOR = 0xffff
const POOL = 0x8000
const [QUEUE, CONFIG] = [1, 2]

describe('the events of virtio over PCI', () => {
  let buffer: ArrayBuffer
  let device: VirtioRng
  let interrupts: NotedMessages
  let pin: NotedPin
  let machine: TestBus
  let transport: VirtioPciTransport
  let guest: PciGuest
  let rings: GuestRing[]
  let doorbells: Map<number, EventFd>
  let refused: Set<number>

  const taken = {
    assign({ address, width, value }: Doorbell, kick: EventFd): void {
      assert.deepEqual([width, value, doorbells.has(address)], [undefined, undefined, false])
      if (refused.has(address)) throw new Error('another doorbell takes the same writes')
      doorbells.set(address, kick)
    },
    deassign({ address }: Doorbell, kick: EventFd): void {
      assert.equal(doorbells.get(address), kick)
      doorbells.delete(address)
    },
  }
  const make = (options: Partial<VirtioDeviceOptions> = {}): void => {
    device = new VirtioRng(new BufferMemory(buffer), { queueSizes: [8, 8, 8], config: new Uint8Array(4), ...options })
    interrupts = new NotedMessages()
    pin = new NotedPin()
    machine = new TestBus()
    doorbells = new Map()
    refused = new Set()
    transport = new VirtioPciTransport(device, { interrupts, pin, doorbells: taken })
    machine.bus.plug(1, transport.function)
    guest = new PciGuest(machine.config(1), machine.memory)
    interrupts.takeLog()
  }
  const change = (value: number): void => device.config.update(0, Uint8Array.of(value))
  /** Initialises the device with these vectors for its three queues, and the last for its configuration. */
  const start = (...vectors: number[]): void => {
    guest.begin()
    assert.ok(guest.accept(VERSION_1 | featureSet(VIRTIO_F.VIRTIO_F_RING_RESET)))
    guest.mapConfig(vectors[3] ?? NO_VECTOR)
    for (const [index, ring] of rings.entries()) {
      guest.place(index, ring)
      guest.mapQueue(index, vectors[index] ?? NO_VECTOR)
      assert.ok(guest.enable())
    }
    guest.addStatus(DRIVER_OK)
  }
  const draw = async (index = 0): Promise<void> => {
    const ring = rings[index]!
    const expected = (ring.usedIdx + 1) & 0xffff
    ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
    ring.offer(0)
    guest.kick(index)
    await soon('the buffer', () => ring.usedIdx === expected)
    await setImmediate()
  }

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
    rings = [0x1000, 0x2000, 0x3000].map((at) => new GuestRing(buffer, at, 8))
    make()
  })

  afterEach(() => {
    machine.bus.unplug(1)
    transport.close()
    device.close()
    assert.equal(interrupts.connected.size, 0)
    assert.equal(doorbells.size, 0)
    assert.equal(pin.held, false)
  })

  describe('by MSI-X', () => {
    it('[PCI-MSIX-04] [PCI-MSIX-06] raises for each event the vector that it was mapped to, and reads that back', async () => {
      guest.enableMsix()
      start(3, 1, 1, 0)
      assert.deepEqual(transport.inspect().vectors, { config: 0, queues: [3, 1, 1] })
      assert.equal(guest.read('config_msix_vector'), 0)
      for (const [index, vector] of [3, 1, 1].entries()) {
        guest.write('queue_select', index)
        assert.equal(guest.read('queue_msix_vector'), vector)
        await draw(index)
        assert.deepEqual(interrupts.take(), { [vector]: 1 })
      }
      change(1)
      assert.deepEqual(interrupts.take(), { 0: 1 })
      assert.ok(!pin.held)
    })

    it('raises one vector for everything where everything is mapped to it', async () => {
      guest.enableMsix()
      start(2, 2, 2, 2)
      for (const index of [0, 1, 2]) await draw(index)
      change(1)
      assert.deepEqual(interrupts.take(), { 2: 4 })
    })

    it('[PCI-MSIX-05] [PCI-MSIX-07] [PCI-MSIX-10] [PCI-MSIX-11] raises nothing for what is mapped to none, as all is at first and after a reset', async () => {
      guest.enableMsix()
      const vectors = () => transport.inspect().vectors
      const none = { config: null, queues: [null, null, null] }
      assert.deepEqual(vectors(), none)
      start(0, 1)
      assert.equal(guest.mapQueue(0, NO_VECTOR), NO_VECTOR)
      await draw(0)
      await draw(2)
      change(1)
      assert.deepEqual(interrupts.take(), {})
      assert.ok(!pin.held)
      await draw(1)
      assert.deepEqual(interrupts.take(), { 1: 1 })
      guest.write('device_status', 0)
      assert.deepEqual(vectors(), none)
      guest.write('queue_select', 1)
      assert.deepEqual([guest.read('queue_msix_vector'), guest.read('config_msix_vector')], [NO_VECTOR, NO_VECTOR])
      assert.equal(interrupts.connected.size, 0)
    })

    it('[PCI-MSIX-08] [PCI-MSIX-09] refuses vectors that there are not, which reads back as none, and takes all others', () => {
      guest.enableMsix()
      for (const vector of [0, 1, 2, 3]) {
        assert.equal(guest.mapQueue(0, vector), vector)
        assert.equal(guest.mapConfig(vector), vector)
      }
      for (const vector of [4, 5, 0x7ff, 0x800, 0xfffe, NO_VECTOR]) {
        assert.equal(guest.mapQueue(0, vector), NO_VECTOR)
        assert.equal(guest.mapConfig(vector), NO_VECTOR)
      }
      interrupts.onConnect = () => {
        throw new Error('the host cannot')
      }
      assert.equal(guest.mapQueue(0, 1), NO_VECTOR)
    })

    it('commits all messages once, when the device starts, however they were set up', () => {
      guest.enableMsix()
      start(0, 1, 2, 3)
      const log = interrupts.takeLog()
      assert.deepEqual(
        log.filter((call) => !call.startsWith('connect')),
        ['commit', 'unmask 0', 'unmask 1', 'unmask 2', 'unmask 3'],
      )
      guest.memory.write(guest.msix.table + 16 + 8, 4, 0x99)
      guest.maskVector(1, true)
      guest.maskVector(1, false)
      assert.deepEqual(interrupts.takeLog(), ['mask 1', 'commit', 'unmask 1'])
    })

    it('neither loses nor invents one while vectors are masked, function masked or mapped elsewhere', async () => {
      guest.enableMsix()
      start(0, 1, 2, 3)
      guest.maskVector(0, true)
      await draw()
      assert.deepEqual(interrupts.take(), {})
      assert.equal(guest.memory.read(guest.msix.pba, 4), 1)
      guest.maskVector(0, false)
      assert.deepEqual([interrupts.take(), guest.memory.read(guest.msix.pba, 4)], [{ 0: 1 }, 0])
      guest.msixControl = ENABLE | MASKALL
      await draw(1)
      change(7)
      assert.equal(guest.memory.read(guest.msix.pba, 4), 0b1010)
      assert.equal(guest.mapQueue(1, 2), 2)
      guest.msixControl = ENABLE
      assert.deepEqual(interrupts.take(), { 2: 1, 3: 1 })
      assert.deepEqual(interrupts.take(), {})
    })

    it('forgets what was pending where the device is reset', async () => {
      guest.enableMsix()
      start(0, 1, 2, 3)
      for (const vector of [0, 3]) guest.maskVector(vector, true)
      await draw()
      change(1)
      assert.equal(guest.memory.read(guest.msix.pba, 4), 0b1001)
      rings[0] = new GuestRing(buffer, 0x1000, 8)
      start(0, 1, 2, 3)
      assert.equal(guest.memory.read(guest.msix.pba, 4), 0)
      for (const vector of [0, 3]) guest.maskVector(vector, false)
      assert.deepEqual(interrupts.take(), {})
    })

    it('raises nothing by its pin, and shows no queue in its ISR status', async () => {
      guest.enableMsix()
      start(0, 1, 2, 3)
      await draw()
      assert.deepEqual([guest.readIsr(), pin.changes], [0, 0])
    })

    it('[PCI-ISR-02] sets the ISR status’s bit of a configuration change all the same', () => {
      guest.enableMsix()
      start(0, 1, 2, 3)
      change(1)
      assert.equal(guest.config.read(PCI_HEADER.PCI_STATUS, 2) & PCI_STATUS.PCI_STATUS_INTERRUPT, 0)
      assert.deepEqual([guest.readIsr(), guest.readIsr(), pin.changes], [CONFIG, 0, 0])
    })
  })

  describe('by its pin', () => {
    const interruptStatus = (): boolean =>
      (guest.config.read(PCI_HEADER.PCI_STATUS, 2) & PCI_STATUS.PCI_STATUS_INTERRUPT) !== 0

    it('[PCI-ISR-03] [PCI-ISR-04] [PCI-ISR-05] holds it from an event until the ISR status is read', async () => {
      start()
      assert.deepEqual([pin.held, interruptStatus()], [false, false])
      await draw()
      await soon('the pin', () => pin.held)
      assert.ok(interruptStatus())
      assert.equal(guest.readIsr(), QUEUE)
      assert.deepEqual([pin.held, interruptStatus(), guest.readIsr()], [false, false, 0])
      change(1)
      assert.deepEqual([pin.held, interruptStatus(), guest.readIsr()], [true, true, CONFIG])
      await draw(2)
      await soon('the pin', () => pin.held)
      change(2)
      assert.equal(guest.readIsr(), QUEUE | CONFIG)
      assert.deepEqual([pin.held, interruptStatus()], [false, false])
    })

    it('lets it go where the guest disables it, and holds it again where it was not answered', () => {
      start()
      change(1)
      guest.command = MEMORY | MASTER | INTX_DISABLE
      assert.deepEqual([pin.held, interruptStatus()], [false, true])
      guest.command = MEMORY | MASTER
      assert.ok(pin.held)
      guest.readIsr()
    })

    it('goes over to MSI-X and back while the device runs, and loses nothing on the way', async () => {
      start(0, 1, 2, 3)
      const raised: Record<number, number> = {}
      const take = (): void => {
        for (const [vector, count] of Object.entries(interrupts.take())) raised[Number(vector)] = count
      }
      await draw()
      await soon('the pin', () => pin.held)
      guest.enableMsix()
      assert.deepEqual([pin.held, interruptStatus()], [false, false])
      await draw(1)
      take()
      assert.deepEqual(raised, { 1: 1 })
      guest.msixControl = 0
      assert.ok(pin.held)
      assert.equal(guest.readIsr(), QUEUE)
      await draw(2)
      await soon('the pin', () => pin.held)
      assert.equal(guest.readIsr(), QUEUE)
    })

    it('lets it go, and holds it no more, after a reset', async () => {
      start()
      await draw()
      await soon('the pin', () => pin.held)
      guest.write('device_status', 0)
      assert.deepEqual([pin.held, interruptStatus(), guest.readIsr()], [false, false, 0])
      device.queues[0]!.call.signal()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.equal(pin.held, false)
    })

    it('wakes nobody before DRIVER_OK', async () => {
      guest.begin()
      device.queues[0]!.call.signal()
      for (let i = 0; i < 5; i++) await setImmediate()
      assert.deepEqual([pin.changes, device.queues[0]!.call.read()], [0, 1n])
    })
  })

  describe('and doorbells', () => {
    const notify = (): number => guest.capability('VIRTIO_PCI_CAP_NOTIFY_CFG').offset
    const expected = (base: number): [number, EventFd][] =>
      device.queues.map(({ index, kick }) => [base + notify() + 4 * index, kick])

    it('kick each queue at an address of its own, wherever the guest places and moves the registers', async () => {
      assert.deepEqual([...doorbells], expected(STRUCTURES))
      assert.equal(transport.inspect().doorbells, 3)
      guest.placeBar(0, 0xe000_0000)
      assert.deepEqual([...doorbells], expected(0xe000_0000))
      guest.placeBar(0, 0x2_0000_0000)
      assert.deepEqual([...doorbells], expected(0x2_0000_0000))
      guest.placeBar(0, STRUCTURES)
      start()
      rings[1]!.chain([{ address: POOL, length: 16, deviceWrites: true }])
      rings[1]!.offer(0)
      doorbells.get(STRUCTURES + notify() + 4)!.signal()
      await soon('the buffer', () => rings[1]!.usedIdx === 1)
    })

    it('are taken away while memory is not decoded, and come back with it; the device goes on', async () => {
      start()
      await draw()
      guest.command = MASTER
      assert.deepEqual([doorbells.size, machine.memory.windows.size], [0, 0])
      assert.equal(guest.status, 0xff)
      assert.equal(device.status, 0x0f)
      guest.command = MEMORY | MASTER
      assert.deepEqual([...doorbells], expected(STRUCTURES))
      await draw()
    })

    it('go with the function when it is unplugged', () => {
      machine.bus.unplug(1)
      assert.equal(doorbells.size, 0)
    })

    it('that are refused leave the kick to the registers, at any width', async () => {
      for (const address of [0xe000_0000, 0xe000_0004]) refused.add(address + notify())
      guest.placeBar(0, 0xe000_0000)
      assert.equal(transport.inspect().doorbells, 1)
      guest.placeBar(0, STRUCTURES)
      start()
      const registers = transport.function.bars[0]!.registers
      for (const width of [1, 2, 4]) {
        const expectedIndex = rings[1]!.usedIdx + 1
        rings[1]!.chain([{ address: POOL, length: 16, deviceWrites: true }])
        rings[1]!.offer(0)
        registers.write(notify() + 4, width, 0)
        await soon('the buffer', () => rings[1]!.usedIdx === expectedIndex)
      }
      registers.write(notify() + 6, 2, 0)
      assert.equal(device.queues[1]!.kick.read(), 0n)
      assert.equal(registers.read(notify(), 2), 0)
    })
  })

  it('reaches a handler in this process by its vectors', async () => {
    const events = new LocalEvents()
    const raised: number[] = []
    events.handler = (vector) => raised.push(vector)
    transport.close()
    transport = new VirtioPciTransport(device, { interrupts: events })
    machine.bus.unplug(1)
    machine.bus.plug(1, transport.function)
    guest = new PciGuest(machine.config(1), machine.memory)
    guest.enableMsix()
    start(0, 1, 2, 3)
    await draw(1)
    await soon('the interrupt', () => raised.length === 1)
    assert.deepEqual(raised, [1])
    assert.deepEqual(events.messages.get(1), { address: 0xfee0_0000n, data: 0x41 })
    guest.maskVector(1, true)
    await draw(1)
    assert.equal(guest.memory.read(guest.msix.pba, 4), 2)
    guest.maskVector(1, false)
    assert.deepEqual(raised, [1, 1])
  })
})
