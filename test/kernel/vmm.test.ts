// A machine whose guest does no work: how it ends, and that it can be held and closed whatever the guest does.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { VirtioNet } from '../../lib/nic.ts'
import { Vm, type VmEnd, type VmOptions } from '../../lib/vmm/index.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { soon } from '../support/soon.ts'
import { writeTinyKernel } from '../support/tiny-kernel.ts'

const MiB = 1 << 20
/** `jmp $` */
const FOREVER = [0xeb, 0xfe]
/** `mov dx, port; mov al, value; out dx, al` */
const out = (port: number, value: number): number[] => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee]

describe('a machine', () => {
  let directory: string
  let vm: Vm | undefined
  let held: ReturnType<typeof resources>
  let ends: VmEnd[]

  beforeEach(() => {
    held = resources()
    directory = mkdtempSync(path.join(tmpdir(), 'machine-'))
    ends = []
  })

  afterEach('nothing is left', async () => {
    vm?.close()
    vm = undefined
    rmSync(directory, { recursive: true })
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  const make = (code: readonly number[], options: Partial<VmOptions> = {}): Vm => {
    const kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, code)
    const made = new Vm({ kernel, memory: 16 * MiB, ...options })
    made.on('end', (end) => ends.push(end))
    vm = made
    return made
  }
  const run = async (code: readonly number[], options?: Partial<VmOptions>): Promise<VmEnd | undefined> => {
    make(code, options).start()
    await soon('the end', () => ends.length > 0)
    assert.equal(ends.length, 1)
    return ends[0]
  }

  describe('ends', () => {
    it('where its guest switches it off', async () => {
      assert.deepEqual(await run([...out(0x600, (5 << 2) | (1 << 5)), ...FOREVER]), { why: 'poweroff' })
    })

    it('where its guest resets it', async () => {
      assert.deepEqual(await run([...out(0x602, 1), ...FOREVER]), { why: 'reset' })
    })

    it('where its guest resets it by the keyboard controller', async () => {
      assert.deepEqual(await run([...out(0x64, 0xfe), ...FOREVER]), { why: 'reset' })
    })

    it('where its guest comes to a triple fault', async () => {
      // An interrupt table with nothing in it, and a breakpoint: lidt [zeros]; int3
      const code = [0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0xcc]
      assert.deepEqual(await run(code), { why: 'reset' })
    })

    it('once, with several processors', async () => {
      assert.deepEqual(await run([...out(0x600, (5 << 2) | (1 << 5)), ...FOREVER], { smp: 4 }), { why: 'poweroff' })
    })

    it('not by what means something else at these ports', async () => {
      const nothing = [out(0x600, 5 << 2), out(0x600, 1 << 5), out(0x602, 0), out(0x64, 0xaa), out(0x601, 0x34)]
      const machine = make([...nothing.flat(), ...out(0x3f8, 0x21), ...FOREVER])
      let output = ''
      machine.on('console', (bytes) => {
        output += Buffer.from(bytes).toString('latin1')
      })
      machine.start()
      await soon('the output', () => output === '!')
      assert.deepEqual(ends, [])
    })
  })

  describe('leaves this process its time', () => {
    it('while its guest storms addresses at which nothing lies', async () => {
      // again: mov eax, [0xd0100000]; mov [0xd0100000], eax; jmp again
      const machine = make([0xa1, 0, 0, 0x10, 0xd0, 0xa3, 0, 0, 0x10, 0xd0, 0xeb, 0xf4])
      machine.start()
      await soon('the storm', () => machine.counters()[0]!.unmapped > 10_000)
      assert.equal(machine.counters()[0]!.asked, 0)
      machine.close()
      assert.deepEqual(ends, [])
    })

    it('while its guest storms the registers of a NIC, which it never says it can drive', async () => {
      // again: mov eax, [0xd0000000]; jmp again
      const machine = make([0xa1, 0, 0, 0, 0xd0, 0xeb, 0xf9])
      const nic = await VirtioNet.open({ memory: machine.memory, backend: { tap: { ifname: 'machine0' } } })
      try {
        machine.attachMmio(nic)
        machine.start()
        await soon('the storm', () => machine.counters()[0]!.asked > 200)
        for (let turn = 0; turn < 100; turn++) await setImmediate()
        assert.deepEqual(nic.inspect().status, [])
        machine.pause()
        const { asked } = machine.counters()[0]!
        await setImmediate()
        assert.equal(machine.counters()[0]!.asked, asked)
        machine.resume()
        await soon('more of it', () => machine.counters()[0]!.asked > asked)
      } finally {
        machine.close()
        nic.close()
      }
    })
  })

  describe('refuses', () => {
    it('to be used once it is closed', () => {
      const machine = make(FOREVER)
      machine.close()
      machine.close()
      for (const use of [
        () => machine.start(),
        () => machine.pause(),
        () => machine.resume(),
        () => machine.write(''),
        () => machine.attachMmio(undefined as never),
      ]) {
        assert.throws(use, { name: 'StateError', code: 'ERR_CLOSED' })
      }
    })

    it('to start twice, and another device once it was started', () => {
      const machine = make(FOREVER)
      machine.start()
      assert.throws(() => machine.start(), { name: 'StateError', code: 'ERR_ALREADY_ACTIVE' })
      assert.throws(() => machine.attachMmio(undefined as never), { name: 'StateError', code: 'ERR_ALREADY_ACTIVE' })
    })

    it('options that are no machine’s, before it makes anything', () => {
      for (const [options, code] of [
        [{ smp: 0 }, 'ERR_OPTION_RANGE'],
        [{ smp: 65 }, 'ERR_OPTION_RANGE'],
        [{ smp: 1.5 }, 'ERR_OPTION_RANGE'],
        [{ smp: '2' }, 'ERR_OPTION_TYPE'],
        [{ memory: 8 * MiB }, 'ERR_OPTION_RANGE'],
        [{ memory: 16 * MiB + 1 }, 'ERR_OPTION_RANGE'],
        [{ cpus: 2 }, 'ERR_OPTION_UNKNOWN'],
        [{ kernel: undefined }, 'ERR_OPTION_TYPE'],
      ] as const) {
        assert.throws(
          () => make(FOREVER, options as never),
          { name: 'InvalidOptionError', code },
          JSON.stringify(options),
        )
      }
    })

    it('a kernel that is none', () => {
      assert.throws(() => make([], { kernel: process.execPath }), { name: 'BootError', code: 'ERR_KERNEL_IMAGE' })
      assert.throws(() => make([], { kernel: path.join(directory, 'none') }), { code: 'ENOENT' })
      assert.throws(() => make([], { initrd: path.join(directory, 'none') }), { code: 'ENOENT' })
    })
  })
})
