// MSI-X of a function: its table, its masks and its pending bits, and what of them reaches the interrupts' other side.

import assert from 'node:assert/strict'
import { PCI_MSIX, PCI_MSIX_FLAGS } from '../../lib/abi/pci.ts'
import { EventFd } from '../../lib/event/index.ts'
import { Msix, PciFunction } from '../../lib/pci/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { NotedMessages } from '../support/pci-bus.ts'

const { PCI_MSIX_FLAGS_ENABLE: ENABLE, PCI_MSIX_FLAGS_MASKALL: MASKALL } = PCI_MSIX_FLAGS
const CAPABILITY = 0x40

describe('MSI-X', () => {
  let closing: Teardown
  let interrupts: NotedMessages
  let switched: boolean[]
  let msix: Msix
  let config: PciFunction

  const make = (vectors: number): void => {
    interrupts = new NotedMessages(vectors)
    switched = []
    msix = new Msix({ interrupts, vectors, bar: 4, onEnable: (enabled) => void switched.push(enabled) })
    config = new PciFunction({ vendorId: 1, deviceId: 1, classCode: 0, capabilities: [msix] })
    interrupts.takeLog()
  }
  const control = (bits: number): void => config.write(CAPABILITY + PCI_MSIX.PCI_MSIX_FLAGS, 2, bits)
  const writeMessage = (vector: number, address: bigint, data: number): void => {
    msix.registers.write(16 * vector, 4, Number(address & 0xffff_ffffn))
    msix.registers.write(16 * vector + 4, 4, Number(address >> 32n))
    msix.registers.write(16 * vector + 8, 4, data)
  }
  const mask = (vector: number, masked: boolean): void => msix.registers.write(16 * vector + 12, 4, masked ? 1 : 0)
  const eventfd = (vector: number): EventFd => {
    const call = closing.own(EventFd.create())
    interrupts.connect(vector, call)
    interrupts.takeLog()
    return call
  }

  beforeEach(() => {
    closing = new Teardown()
    make(4)
    msix.live = true
  })

  afterEach(() => closing.run())

  it('has as many vectors as it was made with, all of them masked at first', () => {
    for (const vectors of [1, 2, 258, 2048]) {
      make(vectors)
      assert.equal(interrupts.masked.size, vectors)
      assert.equal(config.read(CAPABILITY, 4), 0x11 + (vectors - 1) * 0x1_0000)
      assert.equal(config.read(CAPABILITY + PCI_MSIX.PCI_MSIX_TABLE, 4), 4)
      const pba = config.read(CAPABILITY + PCI_MSIX.PCI_MSIX_PBA, 4)
      assert.equal(pba & 7, 4)
      assert.equal((pba - 4) % 4096, 0)
      assert.ok(pba - 4 >= 16 * vectors && pba - 4 + Math.ceil(vectors / 64) * 8 <= msix.registers.size)
      assert.equal(msix.registers.read(16 * (vectors - 1) + 12, 4), 1)
    }
    for (const vectors of [0, 2049]) assert.throws(() => make(vectors), { code: 'ERR_OPTION_RANGE' })
  })

  it('takes enable and function mask, and nothing else in its capability', () => {
    for (let at = 0; at < 12; at += 4) config.write(CAPABILITY + at, 4, 0xffff_ffff)
    assert.equal(config.read(CAPABILITY, 4), 0xc003_0011)
    assert.deepEqual(
      [4, 8].map((at) => config.read(CAPABILITY + at, 4)),
      [4, 0x1004],
    )
    assert.deepEqual(switched, [true])
    control(0)
    assert.deepEqual(switched, [true, false])
  })

  it('lets a vector go once nothing masks it any more: with its message, which is committed before', () => {
    writeMessage(1, 0x12_fee0_1000n, 0x4041)
    mask(1, false)
    assert.deepEqual(interrupts.takeLog(), [])
    control(ENABLE | MASKALL)
    assert.deepEqual(interrupts.takeLog(), [])
    control(ENABLE)
    assert.deepEqual(interrupts.takeLog(), ['commit', 'unmask 1'])
    assert.deepEqual([...interrupts.messages], [[1, { address: 0x12_fee0_1000n, data: 0x4041 }]])
    assert.deepEqual(msix.inspect(), { enabled: true, functionMask: false, vectors: 4, unmasked: [1] })
  })

  for (const [what, hold, letGo] of [
    ['its own mask', () => mask(1, true), () => mask(1, false)],
    ['the function’s mask', () => control(ENABLE | MASKALL), () => control(ENABLE)],
    ['MSI-X switched off', () => control(0), () => control(ENABLE)],
  ] as const) {
    it(`holds a vector back for ${what}, and lets it go again without a commit`, () => {
      writeMessage(1, 0xfee0_0000n, 1)
      mask(1, false)
      control(ENABLE)
      interrupts.takeLog()
      hold()
      assert.deepEqual(interrupts.takeLog(), ['mask 1'])
      letGo()
      assert.deepEqual(interrupts.takeLog(), ['unmask 1'])
    })
  }

  it('commits all messages together, however many vectors are let go at once', () => {
    make(258)
    control(ENABLE)
    for (let vector = 0; vector < 258; vector++) {
      writeMessage(vector, 0xfee0_0000n, vector)
      mask(vector, false)
    }
    assert.deepEqual(interrupts.takeLog(), [])
    msix.live = true
    const log = interrupts.takeLog()
    assert.equal(log[0], 'commit')
    assert.deepEqual(
      log.slice(1),
      Array.from({ length: 258 }, (_, vector) => `unmask ${vector}`),
    )
    writeMessage(7, 0xfee0_0000n, 1000)
    mask(7, true)
    mask(7, false)
    assert.deepEqual(interrupts.takeLog(), ['mask 7', 'commit', 'unmask 7'])
    assert.equal(interrupts.messages.get(7)?.data, 1000)
    msix.live = false
    assert.equal(interrupts.masked.size, 258)
    interrupts.takeLog()
    msix.live = true
    assert.ok(!interrupts.takeLog().includes('commit'))
  })

  it('takes what is written into an entry that is not masked over as a whole, when it is unmasked next', () => {
    writeMessage(1, 0xfee0_0000n, 1)
    mask(1, false)
    control(ENABLE)
    interrupts.takeLog()
    writeMessage(1, 0x5_fee0_2000n, 2)
    mask(1, false)
    assert.deepEqual(interrupts.takeLog(), [])
    assert.equal(interrupts.messages.get(1)?.data, 1)
    control(ENABLE | MASKALL)
    control(ENABLE)
    assert.deepEqual(interrupts.takeLog(), ['mask 1', 'commit', 'unmask 1'])
    assert.deepEqual(interrupts.messages.get(1), { address: 0x5_fee0_2000n, data: 2 })
  })

  it('keeps of an entry what can be written', () => {
    for (let at = 0; at < 16; at += 4) msix.registers.write(at, 4, 0xffff_ffff)
    assert.deepEqual(
      [0, 4, 8, 12].map((at) => msix.registers.read(at, 4)),
      [0xffff_fffc, 0xffff_ffff, 0xffff_ffff, 1],
    )
  })

  it('has pending bits, which are read on demand and not taken by it', () => {
    make(70)
    msix.live = true
    const PBA = 4096
    const calls = new Map([3, 40, 69].map((vector) => [vector, eventfd(vector)]))
    control(ENABLE)
    for (const call of calls.values()) call.signal()
    for (let look = 0; look < 2; look++) {
      assert.deepEqual(
        [0, 4, 8, 12].map((at) => msix.registers.read(PBA + at, 4)),
        [1 << 3, 1 << 8, 1 << 5, 0],
      )
    }
    mask(3, false)
    assert.equal(msix.registers.read(PBA, 4), 0)
    assert.deepEqual(interrupts.take(), { 3: 1 })
    control(0)
    assert.equal(msix.registers.read(PBA + 4, 4), 0)
    msix.registers.write(PBA + 4, 4, 0xffff_ffff)
    control(ENABLE)
    assert.equal(msix.registers.read(PBA + 4, 4), 1 << 8)
  })

  it('takes no access of its registers but aligned ones of 32 bits, and none between and behind them', () => {
    writeMessage(0, 0xfee0_0000n, 7)
    for (let offset = -16; offset < msix.registers.size + 16; offset++) {
      for (const width of [0, 1, 2, 3, 8]) {
        assert.equal(msix.registers.read(offset, width), 0)
        msix.registers.write(offset, width, 0xffff_ffff)
      }
      if (offset % 4 === 0 && offset >= 0 && offset < 64) continue
      assert.equal(msix.registers.read(offset, 4), 0)
      msix.registers.write(offset, 4, 0xffff_ffff)
    }
    assert.deepEqual(
      Array.from({ length: 16 }, (_, i) => msix.registers.read(4 * i, 4)),
      [0xfee0_0000, 0, 7, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
    )
    assert.deepEqual(interrupts.takeLog(), [])
  })

  it('is switched off, and masked, by a reset of the bus', () => {
    writeMessage(1, 0xfee0_0000n, 1)
    mask(1, false)
    control(ENABLE)
    interrupts.takeLog()
    config.reset()
    assert.deepEqual(interrupts.takeLog(), ['mask 1'])
    assert.deepEqual(switched, [true, false])
    assert.deepEqual(
      [0, 4, 8, 12].map((at) => msix.registers.read(16 + at, 4)),
      [0, 0, 0, 1],
    )
    assert.equal(config.read(CAPABILITY, 4), 0x0003_0011)
  })
})
