// The ways to configuration space, configuration mechanism #1 and ECAM, and slots that are filled and emptied.

import assert from 'node:assert/strict'
import { PCI_HEADER } from '../../lib/abi/pci.ts'
import { ConfigPorts, PciBus, PciFunction } from '../../lib/pci/index.ts'
import { NotedPin, TestBus } from '../support/pci-bus.ts'

const registers = { size: 4096, read: () => 0, write: () => undefined }
const make = (deviceId = 1, pin?: NotedPin): PciFunction =>
  new PciFunction({
    vendorId: 0x1234,
    deviceId,
    classCode: 0xff_00_00,
    bars: [{ index: 0, registers }],
    ...(pin === undefined ? {} : { pin }),
  })

describe('a PCI bus', () => {
  let machine: TestBus
  let ports: ConfigPorts

  beforeEach(() => {
    machine = new TestBus()
    ports = new ConfigPorts(machine.bus)
    machine.bus.plug(0, make(0x10))
    machine.bus.plug(3, make(0x13))
  })

  afterEach(() => ports.close())

  const select = (slot: number, offset = 0, { fn = 0, bus = 0, enable = true } = {}): void =>
    ports.write(0, 4, (enable ? 0x8000_0000 : 0) + (bus << 16) + (slot << 11) + (fn << 8) + offset)

  describe('by its ports', () => {
    it('shows the function that the address names, at any width', () => {
      select(3)
      assert.equal(ports.read(4, 4), 0x0013_1234)
      assert.equal(ports.read(6, 2), 0x0013)
      assert.equal(ports.read(5, 1), 0x12)
      select(0, PCI_HEADER.PCI_CLASS_PROG - 1)
      assert.equal(ports.read(7, 1), 0xff)
    })

    it('writes the bytes that an access has, and no others', () => {
      select(3, PCI_HEADER.PCI_BASE_ADDRESS_0)
      ports.write(4, 4, 0xd000_0000)
      ports.write(6, 1, 0x12)
      ports.write(5, 1, 0xff)
      assert.equal(ports.read(4, 4), 0xd012_f000)
      ports.write(6, 2, 0xe000)
      assert.equal(ports.read(4, 4), 0xe000_f000)
    })

    it('shows ones where there is no slot, bus or function, and where the address is not enabled', () => {
      for (const choose of [
        () => select(1),
        () => select(3, 0, { fn: 1 }),
        () => select(3, 0, { bus: 1 }),
        () => select(3, 0, { enable: false }),
      ]) {
        choose()
        assert.deepEqual([ports.read(4, 4), ports.read(4, 2), ports.read(4, 1)], [0xffff_ffff, 0xffff, 0xff])
        ports.write(4, 4, 0)
      }
    })

    it('keeps the address, which is written and read as a whole, without its reserved bits', () => {
      ports.write(0, 4, 0xffff_ffff)
      assert.equal(ports.read(0, 4), 0x80ff_fffc)
      for (const width of [1, 2, 8]) ports.write(0, width, 0)
      ports.write(1, 1, 0)
      assert.equal(ports.read(0, 4), 0x80ff_fffc)
      assert.deepEqual([ports.read(0, 1), ports.read(1, 1), ports.read(2, 2)], [0xff, 0xff, 0xffff])
    })

    it('shows ones for what reaches beyond the 4 bytes of data, or no width has', () => {
      select(3)
      for (const [offset, width] of [
        [5, 4],
        [6, 4],
        [7, 2],
        [2, 4],
        [8, 4],
        [4, 8],
        [4, 3],
        [-4, 4],
        [Number.NaN, 4],
      ] as const) {
        assert.equal(ports.read(offset, width), width === 2 ? 0xffff : 0xffff_ffff)
        ports.write(offset, width, 0)
      }
      assert.equal(ports.read(4, 4), 0x0013_1234)
    })
  })

  describe('by ECAM', () => {
    it('shows each function in 4096 bytes of its own', () => {
      assert.equal(machine.ecam.size, 2 ** 20)
      assert.equal(machine.ecam.read(0, 4), 0x0010_1234)
      assert.equal(machine.ecam.read(3 * 0x8000, 4), 0x0013_1234)
      assert.equal(machine.ecam.read(3 * 0x8000 + 2, 2), 0x0013)
      assert.equal(machine.ecam.read(3 * 0x8000 + 0x100, 4), 0)
      machine.ecam.write(3 * 0x8000 + 0x11, 1, 0xf0)
      assert.equal(machine.ecam.read(3 * 0x8000 + 0x10, 4), 0xf000)
    })

    it('shows ones where nothing is, at any width and alignment', () => {
      for (const at of [0x8000, 3 * 0x8000 + 0x1000, 31 * 0x8000 + 0x7000, 2 ** 20, -4, Number.NaN]) {
        assert.equal(machine.ecam.read(at, 4), 0xffff_ffff)
        assert.equal(machine.ecam.read(at, 1), 0xff)
        machine.ecam.write(at, 4, 0)
      }
      for (const [offset, width] of [
        [1, 4],
        [3, 2],
        [0, 8],
      ] as const)
        assert.equal(machine.ecam.read(offset, width), width === 2 ? 0xffff : 0xffff_ffff)
    })
  })

  describe('and its slots', () => {
    it('can be filled at any time, each once', () => {
      assert.equal(machine.config(5).read(0, 4), 0xffff_ffff)
      machine.bus.plug(5, make(0x15))
      assert.equal(machine.config(5).read(0, 4), 0x0015_1234)
      assert.throws(() => machine.bus.plug(5, make()), { code: 'ERR_OPTION_CONFLICT' })
      assert.throws(() => machine.bus.plug(32, make()), { code: 'ERR_OPTION_RANGE' })
      assert.equal(machine.bus.at(5)?.inspect().deviceId, 0x15)
      assert.deepEqual(Object.keys(machine.bus.inspect()), ['0', '3', '5'])
    })

    it('can be emptied at any time: what lay in memory is gone, and a pin is let go', () => {
      const pin = new NotedPin()
      const plugged = make(0x15, pin)
      machine.bus.plug(5, plugged)
      const config = machine.config(5)
      config.write(PCI_HEADER.PCI_BASE_ADDRESS_0, 4, 0xd000_0000)
      config.write(PCI_HEADER.PCI_COMMAND, 2, 2)
      plugged.interrupt = true
      assert.deepEqual([machine.memory.windows.size, pin.held], [1, true])
      machine.bus.unplug(5)
      machine.bus.unplug(5)
      assert.deepEqual([machine.memory.windows.size, pin.held], [0, false])
      assert.equal(config.read(0, 4), 0xffff_ffff)
      machine.bus.plug(5, plugged)
      assert.equal(config.read(PCI_HEADER.PCI_BASE_ADDRESS_0, 4), 0)
    })

    it('are all reset together', () => {
      for (const slot of [0, 3]) machine.config(slot).write(PCI_HEADER.PCI_COMMAND, 2, 6)
      machine.bus.reset()
      for (const slot of [0, 3]) assert.equal(machine.config(slot).read(PCI_HEADER.PCI_COMMAND, 2), 0)
    })

    it('are of the bus that has this number', () => {
      const other = new PciBus(machine.memory, 7)
      other.plug(0, make(7))
      const address = { slot: 0, function: 0, offset: 0 }
      assert.equal(other.readConfig({ ...address, bus: 7 }, 4), 0x0007_1234)
      assert.equal(other.readConfig({ ...address, bus: 0 }, 4), 0xffff_ffff)
    })
  })
})
