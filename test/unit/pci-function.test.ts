// PCI without virtio: configuration space, base addresses, capabilities and the pin of a function.

import assert from 'node:assert/strict'
import { PCI_COMMAND, PCI_HEADER, PCI_STATUS } from '../../lib/abi/pci.ts'
import type { Registers } from '../../lib/event/index.ts'
import { type PciCapability, PciFunction, type PciFunctionOptions, RegisterMap } from '../../lib/pci/index.ts'
import { NotedPin, WindowedMemory } from '../support/pci-bus.ts'

const { PCI_COMMAND_MEMORY: MEMORY, PCI_COMMAND_MASTER: MASTER, PCI_COMMAND_INTX_DISABLE: INTX_DISABLE } = PCI_COMMAND
const identity = {
  vendorId: 0x1234,
  deviceId: 0x5678,
  revision: 9,
  classCode: 0x02_01_03,
  subsystemVendorId: 0xabcd,
  subsystemId: 0xef01,
}

/** Registers that hold what was written last, as one number. */
const plain = (size: number): Registers & { value: number } => ({
  size,
  value: 0,
  read() {
    return this.value
  },
  write(_offset, _width, value) {
    this.value = value
  },
})

describe('a PCI function', () => {
  let memory: WindowedMemory
  let made: PciFunction

  const make = (options: Partial<PciFunctionOptions> = {}): PciFunction => {
    memory = new WindowedMemory()
    made = new PciFunction({ ...identity, ...options })
    made.space = memory
    return made
  }
  const command = (bits: number): void => made.write(PCI_HEADER.PCI_COMMAND, 2, bits)
  const bar = (index: number): number => PCI_HEADER.PCI_BASE_ADDRESS_0 + 4 * index

  describe('and its header', () => {
    it('says what it is', () => {
      make()
      assert.equal(made.read(0, 4), 0x5678_1234)
      assert.equal(made.read(PCI_HEADER.PCI_REVISION_ID, 4), 0x02_01_03_09)
      assert.equal(made.read(PCI_HEADER.PCI_CLASS_DEVICE, 2), 0x02_01)
      assert.equal(made.read(PCI_HEADER.PCI_SUBSYSTEM_VENDOR_ID, 4), 0xef01_abcd)
      assert.equal(made.read(PCI_HEADER.PCI_HEADER_TYPE, 1), 0)
    })

    it('keeps what is read-only, whoever writes it and how', () => {
      const pin = new NotedPin()
      make({ pin, bars: [{ index: 0, registers: plain(4096) }] })
      const before = Array.from({ length: 64 }, (_, i) => made.read(i, 1))
      for (const value of [0xffff_ffff, 0]) {
        for (const width of [1, 2, 4]) for (let at = 0; at < 256; at += width) made.write(at, width, value)
      }
      assert.deepEqual(
        Array.from({ length: 64 }, (_, i) => made.read(i, 1)),
        before,
      )
      made.write(PCI_HEADER.PCI_COMMAND, 4, 0xffff_ffff)
      assert.equal(made.read(PCI_HEADER.PCI_COMMAND, 4), MEMORY | MASTER | INTX_DISABLE)
      made.write(PCI_HEADER.PCI_INTERRUPT_LINE, 4, 0xffff_ffff)
      assert.equal(made.read(PCI_HEADER.PCI_INTERRUPT_LINE, 4), 0x01_ff)
    })

    it('has no memory to decode, and no pin, where it has none', () => {
      make()
      command(0xffff)
      assert.equal(made.read(PCI_HEADER.PCI_COMMAND, 2), MASTER | INTX_DISABLE)
      assert.equal(made.read(PCI_HEADER.PCI_INTERRUPT_PIN, 1), 0)
      for (let index = 0; index < 6; index++) {
        made.write(bar(index), 4, 0xffff_ffff)
        assert.equal(made.read(bar(index), 4), 0)
      }
    })

    it('takes bytes and words as it takes the whole, and nothing that no bus can ask for at once', () => {
      make({ bars: [{ index: 0, registers: plain(4096) }] })
      made.write(PCI_HEADER.PCI_COMMAND, 1, MASTER)
      made.write(PCI_HEADER.PCI_COMMAND + 1, 1, INTX_DISABLE >> 8)
      assert.equal(made.read(PCI_HEADER.PCI_COMMAND, 2), MASTER | INTX_DISABLE)
      assert.equal(made.read(1, 2), 0x7812)
      for (const [offset, width] of [
        [2, 4],
        [3, 2],
        [1, 4],
        [0, 8],
        [0, 3],
        [0, 0],
        [0.5, 1],
        [Number.NaN, 4],
        [-4, 4],
        [4096, 4],
        [2 ** 53, 1],
      ] as const) {
        const ones = width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff
        assert.equal(made.read(offset, width), ones, `${width} bytes at ${offset}`)
        made.write(offset, width, 0)
      }
      assert.equal(made.read(PCI_HEADER.PCI_COMMAND, 2), MASTER | INTX_DISABLE)
    })

    it('has nothing behind its capabilities, up to the end of what ECAM has', () => {
      make()
      for (const offset of [0x40, 0xfc, 0x100, 0xffc]) assert.equal(made.read(offset, 4), 0)
    })

    it('is refused with ids that nobody could tell from an empty slot, or that are no numbers of 16 bits', () => {
      assert.throws(() => make({ vendorId: 0xffff }), { code: 'ERR_OPTION_RANGE', option: 'vendorId' })
      assert.throws(() => make({ deviceId: 0x1_0000 }), { code: 'ERR_OPTION_RANGE', option: 'deviceId' })
      assert.throws(() => make({ classCode: 0x100_0000 }), { code: 'ERR_OPTION_RANGE', option: 'classCode' })
    })
  })

  describe('and its base addresses', () => {
    const placed: (number | undefined)[] = []
    let registers: ReturnType<typeof plain>

    beforeEach(() => {
      placed.length = 0
      registers = plain(0x4000)
      const onPlace = (address: number | undefined): void => void placed.push(address)
      make({
        bars: [
          { index: 0, registers, wide: true, onPlace },
          { index: 2, registers: plain(16), prefetchable: true },
        ],
      })
    })

    it('say their size, and of what kind they are, when ones were written', () => {
      for (const index of [0, 1, 2, 3]) made.write(bar(index), 4, 0xffff_ffff)
      assert.equal(made.read(bar(0), 4), 0xffff_c004)
      assert.equal(made.read(bar(1), 4), 0xffff_ffff)
      assert.equal(made.read(bar(2), 4), 0xffff_fff8)
      assert.equal(made.read(bar(3), 4), 0)
    })

    it('are where the registers lie, while memory is decoded', () => {
      made.write(bar(0), 4, 0xd000_0000)
      assert.equal(memory.windows.size, 0)
      command(MEMORY)
      assert.equal(memory.windows.get(0xd000_0000), registers)
      memory.write(0xd000_0004, 4, 7)
      assert.equal(registers.value, 7)
      command(0)
      assert.equal(memory.windows.size, 0)
      assert.equal(made.read(bar(0), 4), 0xd000_0004)
      assert.deepEqual(placed, [0xd000_0000, undefined])
    })

    it('can be written while memory is decoded: the registers move', () => {
      made.write(bar(0), 4, 0xd000_0000)
      command(MEMORY)
      made.write(bar(0), 4, 0xe000_3fff)
      assert.deepEqual([...memory.windows.keys()], [0xe000_0000])
      made.write(bar(1), 4, 0x12)
      assert.deepEqual([...memory.windows.keys()], [0x12_e000_0000])
      assert.equal(made.inspect().bars[0], 0x12_e000_0000)
      assert.deepEqual(placed, [0xd000_0000, 0xe000_0000, 0x12_e000_0000])
    })

    it('put the registers nowhere at 0, while they are being sized, and where no processor reaches', () => {
      command(MEMORY)
      assert.equal(memory.windows.size, 0)
      made.write(bar(0), 4, 0xffff_ffff)
      made.write(bar(2), 4, 0xffff_ffff)
      assert.equal(memory.windows.size, 0)
      for (const high of [0xffff_ffff, 0x10_0000]) {
        made.write(bar(1), 4, high)
        assert.equal(memory.windows.size, 0)
      }
      made.write(bar(1), 4, 0xf_ffff)
      assert.deepEqual([...memory.windows.keys()], [2 ** 52 - 0x4000])
    })

    it('take no notice of a write that changes nothing', () => {
      made.write(bar(0), 4, 0xd000_0000)
      command(MEMORY)
      made.write(bar(0), 4, 0xd000_0000)
      command(MEMORY | MASTER)
      assert.deepEqual(placed, [0xd000_0000])
    })

    it('put the registers nowhere once the function is on no bus, or closed', () => {
      made.write(bar(0), 4, 0xd000_0000)
      command(MEMORY)
      made.space = undefined
      assert.equal(memory.windows.size, 0)
      made.space = memory
      assert.equal(memory.windows.size, 1)
      made.close()
      made.close()
      assert.equal(memory.windows.size, 0)
      assert.equal(made.read(0, 4), 0xffff_ffff)
      made.write(PCI_HEADER.PCI_COMMAND, 2, MEMORY)
      assert.equal(memory.windows.size, 0)
    })

    it('are refused where two take one register, one has no register, or a size is no power of two', () => {
      const two = [
        { index: 0, registers, wide: true },
        { index: 1, registers },
      ]
      assert.throws(() => make({ bars: two }), { code: 'ERR_OPTION_CONFLICT' })
      assert.throws(() => make({ bars: [{ index: 5, registers, wide: true }] }), { code: 'ERR_OPTION_RANGE' })
      for (const size of [0, 8, 24]) {
        assert.throws(() => make({ bars: [{ index: 0, registers: plain(size) }] }), { code: 'ERR_OPTION_RANGE' })
      }
    })
  })

  describe('and its capabilities', () => {
    const capability = (id: number, ...rest: number[]): PciCapability & { log: string[] } => {
      const log: string[] = []
      return {
        id,
        bytes: Uint8Array.of(0, 0, ...rest),
        writable: Uint8Array.of(0, 0, ...rest.map(() => 0x0f)),
        log,
        onRead: (offset, width) => log.push(`read ${offset} ${width}`),
        onWrite: (offset, width) => log.push(`write ${offset} ${width}`),
      }
    }

    it('are chained, at multiples of 4', () => {
      make({ capabilities: [capability(9, 1, 2, 3), capability(0x11, 4)] })
      assert.equal(made.read(PCI_HEADER.PCI_STATUS, 2), PCI_STATUS.PCI_STATUS_CAP_LIST)
      assert.equal(made.read(PCI_HEADER.PCI_CAPABILITY_LIST, 1), 0x40)
      assert.deepEqual([made.read(0x40, 4), made.read(0x44, 4)], [0x0201_4809, 3])
      assert.deepEqual([made.read(0x48, 4), made.read(0x4c, 4)], [0x04_0011, 0])
    })

    it('take the bits that can be written, and are told of it', () => {
      const one = capability(9, 0x11, 0x22, 0x33)
      make({ capabilities: [one] })
      made.write(0x40, 4, 0xffff_ffff)
      made.write(0x44, 1, 0xff)
      made.write(0x45, 1, 0xff)
      assert.equal(made.read(0x40, 4), 0x2f1f_0009)
      assert.equal(made.read(0x44, 4), 0x3f)
      assert.deepEqual(one.log, ['write 0 4', 'write 4 1', 'write 5 1', 'read 0 4', 'read 4 4'])
    })

    it('are refused where they do not fit', () => {
      const large = () => capability(9, ...new Array<number>(98).fill(0))
      assert.throws(() => make({ capabilities: [large(), large()] }), { code: 'ERR_OPTION_RANGE' })
    })
  })

  describe('and its pin', () => {
    let pin: NotedPin

    beforeEach(() => {
      pin = new NotedPin()
      make({ pin })
    })

    it('is held while the function asks for an interrupt, as the status bit says', () => {
      assert.equal(made.read(PCI_HEADER.PCI_INTERRUPT_PIN, 1), 1)
      made.interrupt = true
      assert.equal(made.read(PCI_HEADER.PCI_STATUS, 2), PCI_STATUS.PCI_STATUS_INTERRUPT)
      assert.ok(pin.held)
      made.interrupt = false
      assert.equal(made.read(PCI_HEADER.PCI_STATUS, 2), 0)
      assert.ok(!pin.held)
    })

    it('is let go where the guest has disabled it: the status bit stays', () => {
      made.interrupt = true
      command(INTX_DISABLE)
      assert.ok(!pin.held)
      assert.equal(made.read(PCI_HEADER.PCI_STATUS, 2), PCI_STATUS.PCI_STATUS_INTERRUPT)
      command(0)
      assert.ok(pin.held)
      made.write(PCI_HEADER.PCI_STATUS, 2, 0xffff)
      assert.equal(made.read(PCI_HEADER.PCI_STATUS, 2), PCI_STATUS.PCI_STATUS_INTERRUPT)
    })

    it('is let go when it is taken from its bus', () => {
      made.interrupt = true
      made.space = undefined
      assert.ok(!pin.held)
    })
  })

  it('is as it was at first after a reset, and so is what is behind it', () => {
    const log: string[] = []
    make({
      bars: [{ index: 0, registers: plain(4096) }],
      onReset: () => void log.push(`reset ${made.read(PCI_HEADER.PCI_COMMAND, 2)}`),
      onCommand: (now, before) => void log.push(`command ${before} ${now}`),
    })
    made.write(bar(0), 4, 0xd000_0000)
    made.write(PCI_HEADER.PCI_INTERRUPT_LINE, 1, 5)
    command(MEMORY | MASTER)
    made.reset()
    assert.deepEqual(log, ['command 0 6', 'reset 6', 'command 6 0'])
    assert.equal(memory.windows.size, 0)
    assert.deepEqual([made.read(bar(0), 4), made.read(PCI_HEADER.PCI_INTERRUPT_LINE, 1)], [0, 0])
  })
})

describe('several windows in one', () => {
  it('take what is wholly within one of them', () => {
    const [first, second] = [plain(4), plain(8)]
    const map = new RegisterMap([
      { offset: 0, registers: first },
      { offset: 0x14, registers: second },
    ])
    assert.equal(map.size, 32)
    map.write(0, 4, 1)
    map.write(0x18, 4, 2)
    assert.deepEqual([first.value, second.value], [1, 2])
    for (const [offset, width] of [
      [2, 4],
      [4, 4],
      [0x12, 4],
      [0x1a, 4],
      [-1, 1],
      [Number.NaN, 4],
    ] as const) {
      assert.equal(map.read(offset, width), 0)
      map.write(offset, width, 9)
    }
    assert.deepEqual([first.value, second.value], [1, 2])
  })
})
