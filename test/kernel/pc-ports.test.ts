// The serial port and the clock of a machine, as a program finds them that knows no driver.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { Rtc } from '../../lib/vmm/rtc.ts'
import { Serial } from '../../lib/vmm/serial.ts'
import { bytesAt } from '../support/bytes-at.ts'
import { RealMode } from '../support/real-mode.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { soon } from '../support/soon.ts'

const COM1 = 0x3f8
const RTC = 0x70
const HLT = 0xf4

/** `mov dx, port` */
const port = (number: number): number[] => [0xba, number & 0xff, number >> 8]
/** `mov al, value; out dx, al` */
const out = (at: number, value: number): number[] => [...port(at), 0xb0, value, 0xee]
/** `in al, dx; stosb`, to where es:di is: what was read is collected from address 0x8000 on. */
const collect = (at: number): number[] => [...port(at), 0xec, 0xaa]
const COLLECTED = 0x8000

describe('the ports of a PC', () => {
  let machine: RealMode | undefined
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
  })

  afterEach('nothing is left', async () => {
    machine?.close()
    machine = undefined
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  const run = async (program: readonly number[], map: (machine: RealMode) => void): Promise<RealMode> => {
    // cld, for stosb.
    machine = new RealMode([0xfc, ...program, HLT], { rdi: BigInt(COLLECTED) })
    const { thread, ends } = machine
    map(machine)
    thread.resume()
    await soon('the end of the program', () => ends.length > 0)
    assert.deepEqual(ends, [{ why: 'exit', exit: 'KVM_EXIT_HLT', detail: 0 }])
    return machine
  }
  const collected = ({ memory }: RealMode, count: number): number[] => [...bytesAt(memory, COLLECTED, count)]

  describe('a serial port', () => {
    let output = ''
    let serial: Serial
    let ready = 0

    beforeEach(() => {
      output = ''
      ready = 0
      serial = new Serial(() => {
        ready++
        output += Buffer.from(serial.take()).toString('latin1')
      })
    })

    afterEach(() => serial.close())

    const runSerial = (...program: number[][]) => run(program.flat(), ({ bus }) => bus.mapNative('ports', COM1, serial))

    it('sends what it is written, without anybody asked', async () => {
      const { thread } = await runSerial(out(COM1, 0x68), out(COM1, 0x69))
      await soon('the output', () => output === 'hi')
      assert.equal(thread.counters().asked, 0)
    })

    it('receives what is typed, in order, and says when there is no more', async () => {
      assert.equal(serial.put(Buffer.from('ab')), 2)
      const guest = await runSerial(...[5, 0, 5, 0, 5, 0].map((register) => collect(COM1 + register)))
      assert.deepEqual(collected(guest, 6), [0x61, 0x61, 0x61, 0x62, 0x60, 0])
    })

    it('takes as much as it has room for, and says when there is room again for what it did not take', async () => {
      const typed = Buffer.alloc(10_000, 'x')
      assert.equal(serial.put(typed), 4096)
      // mov cx, count; again: in al, dx; loop again
      const drain = (count: number) => [...port(COM1), 0xb9, count & 0xff, count >> 8, 0xec, 0xe2, 0xfd]
      await runSerial(drain(2047))
      machine?.close()
      assert.equal(ready, 0, 'less than half is free')
      await runSerial(drain(1))
      await soon('room', () => ready === 1)
      machine?.close()
      assert.equal(serial.put(typed.subarray(4096)), 2048)
      assert.equal(serial.put(typed.subarray(6144)), 0)
      const rest = await runSerial(drain(4095), collect(COM1 + 5), collect(COM1), collect(COM1 + 5), collect(COM1))
      assert.deepEqual(collected(rest, 4), [0x61, 0x78, 0x60, 0])
      await soon('room', () => ready === 2)
    })

    it('does not speak of room that nobody waits for', async () => {
      assert.equal(serial.put(Buffer.alloc(4096, 'x')), 4096)
      await runSerial([...port(COM1), 0xb9, 0x00, 0x10, 0xec, 0xe2, 0xfd])
      await setImmediate()
      assert.equal(ready, 0)
    })

    it('interrupts for a byte typed, once, where that is enabled', async () => {
      await runSerial(out(COM1 + 1, 1))
      assert.equal(serial.interrupt.read(), 0n)
      serial.put(Buffer.from('a'))
      serial.put(Buffer.from('b'))
      assert.equal(serial.interrupt.read(), 1n)
    })

    it('interrupts when it can send, says why, and no more once it was asked', async () => {
      const guest = await runSerial(out(COM1 + 1, 2), collect(COM1 + 2), collect(COM1 + 2))
      assert.equal(serial.interrupt.read(), 1n)
      assert.deepEqual(collected(guest, 2), [2, 1])
    })

    it('is a 16550A: with FIFOs, a divisor latch, a scratch register and a loop-back', async () => {
      const guest = await runSerial(
        [...out(COM1 + 2, 1), ...collect(COM1 + 2)],
        [...out(COM1 + 3, 0x83), ...out(COM1, 12), ...out(COM1 + 1, 1), ...collect(COM1), ...collect(COM1 + 1)],
        [...out(COM1 + 3, 3), ...collect(COM1 + 3)],
        [...out(COM1 + 7, 0x5a), ...collect(COM1 + 7)],
        [...out(COM1 + 4, 0x1f), ...collect(COM1 + 6), ...out(COM1, 0x33), ...collect(COM1), ...out(COM1 + 4, 3)],
        collect(COM1 + 6),
      )
      assert.deepEqual(collected(guest, 8), [0xc1, 12, 1, 3, 0x5a, 0xf0, 0x33, 0xb0])
      await setImmediate()
      assert.deepEqual({ output, ready }, { output: '', ready: 0 })
    })
  })

  describe('a clock', () => {
    const decimal = (bcd: number) => (bcd >> 4) * 10 + (bcd & 15)

    it('has the time in UTC, and is never in the middle of an update', async () => {
      const rtc = new Rtc()
      try {
        const registers = [0x0a, 0x0b, 0x0d, 0, 2, 4, 7, 8, 9, 0x32]
        const program = registers.flatMap((register) => [...out(RTC, register), ...collect(RTC + 1)])
        const before = Math.floor(Date.now() / 1000)
        const guest = await run(program, ({ bus }) => bus.mapNative('ports', RTC, rtc))
        const after = Math.ceil(Date.now() / 1000)
        const [a, b, d, second = 0, minute = 0, hour = 0, day = 0, month = 0, year = 0, century = 0] = collected(
          guest,
          10,
        )
        assert.deepEqual([a, b, d], [0x26, 2, 0x80])
        const time =
          Date.UTC(
            decimal(century) * 100 + decimal(year),
            decimal(month) - 1,
            decimal(day),
            decimal(hour),
            decimal(minute),
            decimal(second),
          ) / 1000
        assert.ok(time >= before && time <= after, `${before} <= ${time} <= ${after}`)
      } finally {
        rtc.close()
      }
    })
  })
})
