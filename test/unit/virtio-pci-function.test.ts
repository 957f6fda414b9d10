// What a guest finds in the configuration space of a virtio device over PCI: ids, capabilities, and the window to its
// registers.

import assert from 'node:assert/strict'
import { PCI_CAP_ID, PCI_HEADER, PCI_STATUS } from '../../lib/abi/pci.ts'
import { VIRTIO_PCI_CAP, VIRTIO_PCI_CAP_LAYOUT } from '../../lib/abi/virtio-pci.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { defaultVectors, type VirtioPciOptions, VirtioPciTransport } from '../../lib/transport/index.ts'
import type { VirtioDeviceOptions } from '../../lib/virtio/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { NotedMessages, NotedPin, TestBus } from '../support/pci-bus.ts'
import { MSIX, PciGuest, STRUCTURES } from '../support/pci-guest.ts'
import { soon } from '../support/soon.ts'
import { VirtioNic } from '../support/virtio-nic.ts'
import { VirtioRng } from '../support/virtio-rng.ts'

const content = Uint8Array.of(1, 2, 3, 4, 5, 6, 7)

describe('the PCI function of a virtio device', () => {
  let device: VirtioRng | VirtioNic
  let machine: TestBus
  let transport: VirtioPciTransport
  let guest: PciGuest
  let buffer: ArrayBuffer

  const make = (
    options: Partial<VirtioDeviceOptions> = {},
    more: Partial<VirtioPciOptions> = {},
    Type: typeof VirtioRng | typeof VirtioNic = VirtioRng,
  ) => {
    device = new Type(new BufferMemory(buffer), { config: content, ...options })
    machine = new TestBus()
    transport = new VirtioPciTransport(device, { interrupts: new NotedMessages(), pin: new NotedPin(), ...more })
    machine.bus.plug(1, transport.function)
    guest = new PciGuest(machine.config(1), machine.memory)
  }
  const close = () => {
    machine.bus.unplug(1)
    transport.close()
    device.close()
  }
  const remake: typeof make = (...options) => {
    close()
    make(...options)
  }
  const read = (offset: number, width: number): number => guest.config.read(offset, width)

  beforeEach(() => {
    buffer = new ArrayBuffer(0x10000)
    make()
  })

  afterEach(close)

  describe('says what it is', () => {
    it('[PCI-ID-01] [PCI-ID-03] [PCI-ID-04] [PCI-ID-05] by ids of a modern device', () => {
      assert.equal(read(PCI_HEADER.PCI_VENDOR_ID, 2), 0x1af4)
      assert.equal(read(PCI_HEADER.PCI_DEVICE_ID, 2), 0x1044)
      assert.ok(read(PCI_HEADER.PCI_REVISION_ID, 1) >= 1)
      assert.equal(read(PCI_HEADER.PCI_SUBSYSTEM_VENDOR_ID, 2), 0x1af4)
      assert.ok(read(PCI_HEADER.PCI_SUBSYSTEM_ID, 2) >= 0x40)
      assert.equal(read(PCI_HEADER.PCI_CLASS_PROG - 1, 4) >>> 8, 0xff_00_00)
    })

    it('[PCI-ID-02] as an Ethernet controller where it is a network device, with 2 vectors more than rings of packets', () => {
      remake({}, {}, VirtioNic)
      assert.equal(read(PCI_HEADER.PCI_DEVICE_ID, 2), 0x1041)
      assert.equal(read(PCI_HEADER.PCI_CLASS_PROG - 1, 4) >>> 8, 0x02_00_00)
      assert.equal(defaultVectors(device), 2 * 3 + 2)
      assert.equal(guest.msix.vectors, 8)
    })

    it('as whoever made it wants', () => {
      remake({}, { classCode: 0x12_34_56, subsystemVendorId: 0x1111, subsystemId: 0x2222 })
      assert.equal(read(PCI_HEADER.PCI_CLASS_PROG - 1, 4) >>> 8, 0x12_34_56)
      assert.equal(read(PCI_HEADER.PCI_SUBSYSTEM_VENDOR_ID, 4), 0x2222_1111)
    })
  })

  it('[PCI-GEN-01] keeps to PCI: base addresses have sizes, capabilities a chain, and what is read-only stays', () => {
    const status = read(PCI_HEADER.PCI_STATUS, 2)
    assert.equal(status & PCI_STATUS.PCI_STATUS_CAP_LIST, PCI_STATUS.PCI_STATUS_CAP_LIST)
    assert.equal(read(PCI_HEADER.PCI_INTERRUPT_PIN, 1), 1)
    const capabilities = guest.capabilities
    assert.deepEqual(
      capabilities.map(({ id, type }) => (id === PCI_CAP_ID.PCI_CAP_ID_VNDR ? type : `id ${id}`)),
      [1, 2, 3, 4, 5, 'id 17'],
    )
    assert.ok(capabilities.every(({ at }) => at >= 0x40 && at % 4 === 0))
    const before = Array.from({ length: 256 }, (_, at) => read(at, 1))
    const window = guest.capability('VIRTIO_PCI_CAP_PCI_CFG').at
    for (const value of [0xffff_ffff, 0]) {
      for (let at = 0; at < 256; at += 4) if (at < window || at >= window + 20) guest.config.write(at, 4, value)
    }
    guest = new PciGuest(machine.config(1), machine.memory)
    assert.deepEqual(
      Array.from({ length: 256 }, (_, at) => read(at, 1)),
      before,
    )
    for (const index of [0, 4]) {
      guest.placeBar(index, 2 ** 64 - 2 ** 12)
      const at = PCI_HEADER.PCI_BASE_ADDRESS_0 + 4 * index
      const [low, high] = [read(at, 4), read(at + 4, 4)]
      assert.deepEqual([low & 0xf, high], [4, 0xffff_ffff])
      assert.equal(2 ** 32 - (low - 4), transport.function.bars.find((bar) => bar.index === index)!.registers.size)
    }
  })

  describe('has capabilities', () => {
    const structures = [
      ['VIRTIO_PCI_CAP_COMMON_CFG', 16, 64],
      ['VIRTIO_PCI_CAP_NOTIFY_CFG', 20, 4],
      ['VIRTIO_PCI_CAP_ISR_CFG', 16, 1],
      ['VIRTIO_PCI_CAP_DEVICE_CFG', 16, 7],
      ['VIRTIO_PCI_CAP_PCI_CFG', 20, 0],
    ] as const

    it('[PCI-CAP-01] [PCI-CAP-02] [PCI-COM-02] [PCI-NTFY-01] [PCI-ISR-01] [PCI-DEV-01] [PCI-CFG-01] one of each type, as long as it says', () => {
      const virtio = guest.capabilities.filter(({ id }) => id === PCI_CAP_ID.PCI_CAP_ID_VNDR)
      assert.deepEqual(
        virtio.map(({ type, length }) => [type, length]),
        structures.map(([name, length]) => [VIRTIO_PCI_CAP[name], length]),
      )
    })

    it('[PCI-COM-01] [PCI-NTFY-02] [PCI-DEV-02] of structures that lie within their BAR, apart, at multiples of 4', () => {
      const { size } = transport.function.bars[0]!.registers
      const places = structures.slice(0, 4).map(([name, , length]) => {
        const found = guest.capability(name)
        assert.deepEqual([found.bar, found.length, found.offset % 4], [0, length, 0], name)
        assert.ok(found.offset + found.length <= size)
        return found
      })
      const byOffset = places.toSorted((a, b) => a.offset - b.offset)
      for (const [i, { offset, length }] of byOffset.slice(0, -1).entries()) {
        assert.ok(offset + length <= byOffset[i + 1]!.offset)
      }
    })

    it('but none of a configuration that the device does not have', () => {
      remake({ config: new Uint8Array() })
      const types = guest.capabilities.filter(({ id }) => id === PCI_CAP_ID.PCI_CAP_ID_VNDR).map(({ type }) => type)
      assert.deepEqual(types, [1, 2, 3, 5])
    })

    it('[PCI-NTFY-03] [PCI-NTFY-04] [PCI-NTFY-05] of a doorbell for each queue, at an address of its own', () => {
      for (const count of [1, 3, 513, 1100]) {
        remake({ queueSizes: new Array<number>(count).fill(8) })
        const { at, length } = guest.capability('VIRTIO_PCI_CAP_NOTIFY_CFG')
        const multiplier = read(at + VIRTIO_PCI_CAP_LAYOUT.notify_off_multiplier, 4)
        assert.equal(multiplier, 4)
        const addresses = device.queues.map(({ index }) => {
          guest.write('queue_select', index)
          return guest.read('queue_notify_off') * multiplier
        })
        assert.equal(new Set(addresses).size, count)
        assert.ok(addresses.every((address) => address + 2 <= length))
      }
    }).timeout(10_000)

    it('[PCI-MSIX-01] [PCI-MSIX-02] [PCI-MSIX-03] of MSI-X with as many vectors as were asked for, else one for each event', () => {
      assert.equal(guest.msix.vectors, 2)
      remake({ queueSizes: [8, 8, 8] })
      assert.equal(guest.msix.vectors, 4)
      for (const vectors of [2, 258, 2048]) {
        remake({}, { vectors })
        assert.equal(guest.msix.vectors, vectors)
        const { bar, table, pba } = guest.msix
        assert.equal(bar, 4)
        assert.equal(machine.memory.read(table + 16 * (vectors - 1) + 12, 4), 1)
        assert.equal(machine.memory.read(pba, 4), 0)
        assert.ok(table >= MSIX && pba >= table + 16 * vectors)
      }
    })
  })

  describe('has a window to its registers', () => {
    let at: number
    const choose = (bar: number, offset: number, length: number): void => {
      guest.config.write(at + VIRTIO_PCI_CAP_LAYOUT.bar, 1, bar)
      guest.config.write(at + VIRTIO_PCI_CAP_LAYOUT.offset, 4, offset)
      guest.config.write(at + VIRTIO_PCI_CAP_LAYOUT.length, 4, length)
    }
    const data = (): number => at + VIRTIO_PCI_CAP_LAYOUT.pci_cfg_data

    beforeEach(() => {
      at = guest.capability('VIRTIO_PCI_CAP_PCI_CFG').at
    })

    it('keeps what was chosen, and nothing else that is written', () => {
      for (let field = 0; field < 16; field += 4) guest.config.write(at + field, 4, 0xffff_ffff)
      assert.equal(read(at, 1), PCI_CAP_ID.PCI_CAP_ID_VNDR)
      assert.deepEqual([read(at + 2, 1), read(at + 3, 1)], [20, 5])
      assert.equal(read(at + 4, 4), 0xff)
      assert.deepEqual([read(at + 8, 4), read(at + 12, 4)], [0xffff_ffff, 0xffff_ffff])
    })

    it('[PCI-CFG-03] reads there whenever the data is read, wherever memory is', () => {
      guest.command = 0
      choose(0, 0x12, 2)
      assert.equal(read(data(), 2), 1)
      choose(0, 0x18, 2)
      assert.equal(read(data(), 4), 8)
      const { offset } = guest.capability('VIRTIO_PCI_CAP_DEVICE_CFG')
      for (const [length, value] of [
        [1, 1],
        [2, 0x0201],
        [4, 0x0403_0201],
      ] as const) {
        choose(0, offset, length)
        assert.equal(read(data(), 4), value)
        assert.equal(read(data(), 1), 1)
      }
    })

    it('[PCI-CFG-02] writes there whenever the data is written: the first bytes of it, as many as were chosen', () => {
      guest.command = 0
      choose(0, 0x14, 1)
      guest.config.write(data(), 4, 0xffff_ff01)
      assert.equal(device.status, 1)
      guest.config.write(data(), 1, 3)
      assert.equal(device.status, 3)
      choose(0, 0x16, 2)
      guest.config.write(data(), 2, 0x1234)
      choose(0, 0x00, 4)
      guest.config.write(data(), 4, 0xfedc_ba98)
      assert.deepEqual(transport.inspect().selected, { deviceFeatures: 0xfedc_ba98, driverFeatures: 0, queue: 0x1234 })
    })

    it('kicks a queue, and takes the ISR status back', async () => {
      const ring = new GuestRing(buffer, 0x1000, 8)
      guest.start(ring)
      ring.chain([{ address: 0x8000, length: 16, deviceWrites: true }])
      ring.offer(0)
      choose(0, guest.capability('VIRTIO_PCI_CAP_NOTIFY_CFG').offset, 2)
      guest.config.write(data(), 2, 0)
      await soon('the interrupt', () => transport.inspect().isr !== 0)
      choose(0, guest.capability('VIRTIO_PCI_CAP_ISR_CFG').offset, 1)
      assert.equal(read(data(), 1), 1)
      assert.equal(read(data(), 1), 0)
    })

    it('reads 0 and writes nothing where what was chosen is not there', () => {
      const { size } = transport.function.bars[0]!.registers
      const before = [device.inspect(), transport.inspect()]
      for (const [bar, offset, length] of [
        [1, 0, 4],
        [4, 0, 4],
        [6, 0, 4],
        [0xff, 0, 4],
        [0, 0, 0],
        [0, 0, 3],
        [0, 0, 8],
        [0, 0, 0xffff_ffff],
        [0, 2, 4],
        [0, 0x17, 2],
        [0, size, 1],
        [0, size - 2, 4],
        [0, 0xffff_fffc, 4],
        [0, 0xffff_ffff, 1],
      ] as const) {
        choose(bar, offset, length)
        guest.config.write(data(), 4, 0xffff_ffff)
        assert.equal(read(data(), 4), 0)
      }
      assert.deepEqual([device.inspect(), transport.inspect()], before)
      assert.equal(machine.memory.windows.has(STRUCTURES), true)
    })
  })
})
