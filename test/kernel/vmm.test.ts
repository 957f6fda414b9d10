// A machine whose guest does no work: how it ends, and that it can be held and closed whatever the guest does.

import assert from 'node:assert/strict'
import { once } from 'node:events'
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

  const make = async (code: readonly number[], options: Partial<VmOptions> = {}): Promise<Vm> => {
    const kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, code)
    const made = await Vm.create({ kernel, memory: 16 * MiB, ...options })
    made.on('end', (end) => ends.push(end))
    vm = made
    return made
  }
  const run = async (code: readonly number[], options?: Partial<VmOptions>): Promise<VmEnd | undefined> => {
    const machine = await make(code, options)
    machine.start()
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
      const machine = await make([...nothing.flat(), ...out(0x3f8, 0x21), ...FOREVER])
      let output = ''
      machine.console.on('data', (bytes: Buffer) => {
        output += bytes.toString('latin1')
      })
      machine.start()
      await soon('the output', () => output === '!')
      assert.deepEqual(ends, [])
    })
  })

  describe('leaves this process its time', () => {
    it('while its guest storms addresses at which nothing lies', async () => {
      // again: mov eax, [0xd0100000]; mov [0xd0100000], eax; jmp again
      const machine = await make([0xa1, 0, 0, 0x10, 0xd0, 0xa3, 0, 0, 0x10, 0xd0, 0xeb, 0xf4])
      machine.start()
      await soon('the storm', () => machine.counters()[0]!.unmapped > 10_000)
      assert.equal(machine.counters()[0]!.asked, 0)
      machine.close()
      assert.deepEqual(ends, [])
    })

    it('while its guest storms the registers of a NIC, which it never says it can drive', async () => {
      // again: mov eax, [0xd0000000]; jmp again
      const machine = await make([0xa1, 0, 0, 0, 0xd0, 0xeb, 0xf9])
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

  describe('is stopped', () => {
    it('whatever its guest does: it ends once, and can still be looked at', async () => {
      const machine = await make(FOREVER, { smp: 2 })
      machine.start()
      await soon('a processor at work', () => machine.inspect().state === 'running')
      machine.stop()
      machine.stop()
      assert.deepEqual(ends, [], 'outside of the call')
      await soon('the end', () => ends.length > 0)
      machine.resume()
      await setImmediate()
      assert.deepEqual(ends, [{ why: 'stopped' }])
      const { state, vcpus } = machine.inspect()
      assert.deepEqual([state, vcpus.length, vcpus.every(({ stands }) => stands !== null)], ['ended', 2, true])
      machine.close()
      const closed = machine.inspect()
      assert.equal(closed.state, 'closed')
      assert.deepEqual(
        closed.vcpus,
        vcpus.map(({ counters }) => ({ counters, stands: null })),
      )
    })

    it('before it was started, too', async () => {
      const machine = await make(FOREVER)
      machine.stop()
      await soon('the end', () => ends.length > 0)
      assert.throws(() => machine.start(), { name: 'StateError', code: 'ERR_ALREADY_ACTIVE' })
    })

    it('and closed by who hears of its end', async () => {
      const machine = await make([...out(0x600, (5 << 2) | (1 << 5)), ...FOREVER])
      const closed = new Promise<void>((resolve) => {
        machine.on('end', () => {
          machine.close()
          resolve()
        })
      })
      machine.start()
      await closed
      assert.throws(() => machine.resume(), { name: 'StateError', code: 'ERR_CLOSED' })
    })
  })

  describe('has a console', () => {
    // again: in al, 0x3fd; test al, 1; jz again; in al, 0x3f8; out 0x3f8, al; jmp again
    const ECHO = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef]

    it('that is as long as its guest, and takes as much at once as is typed', async () => {
      const machine = await make(ECHO)
      const typed = Buffer.alloc(6000, 'The quick brown fox. ')
      let echoed = ''
      machine.console.on('data', (bytes: Buffer) => {
        echoed += bytes.toString('latin1')
        if (echoed.length === typed.length) machine.stop()
      })
      const over = once(machine.console, 'end')
      machine.console.write(typed)
      machine.start()
      await over
      assert.equal(echoed, typed.toString('latin1'))
    })
  })

  describe('with NICs', () => {
    const nic = (ifname: string) => ({ backend: { tap: { ifname } } })

    it('has them in its order, each with a queue pair for each processor, and closes them', async () => {
      const mmio = { ...nic('machine2'), transport: 'mmio', queuePairs: 1 } as const
      const machine = await make(FOREVER, { smp: 2, nics: [nic('machine1'), mmio] })
      assert.deepEqual(
        machine.nics.map(({ queuePairs, backend }) => [backend.ifname, queuePairs]),
        [
          ['machine1', 2],
          ['machine2', 1],
        ],
      )
      const { pci, virtioMmio } = machine.inspect()
      assert.deepEqual([Object.keys(pci).length, virtioMmio.length], [2, 1])
      machine.start()
      machine.close()
    })

    it('leaves none of them behind where one cannot be opened', async () => {
      const nics = [nic('machine1'), nic('a name that is too long')]
      await assert.rejects(make(FOREVER, { nics }), { name: 'InvalidOptionError', option: 'tap.ifname' })
    })

    it('tells which of their options is wrong, before anything is made', async () => {
      for (const [nics, option] of [
        [1, 'nics'],
        [[nic('machine1'), null], 'nics[1]'],
        [[{ ...nic('machine1'), transport: 'isa' }], 'nics[0].transport'],
        [[{ ...nic('machine1'), transport: 'mmio', vectors: 4 }], 'nics[0].vectors'],
        [[{ ...nic('machine1'), queuePairs: 0 }], 'queuePairs'],
        [[{ ...nic('machine1'), queue_pairs: 4 }], 'queue_pairs'],
        [[{}], 'backend'],
      ] as const) {
        await assert.rejects(make(FOREVER, { nics: nics as never }), { name: 'InvalidOptionError', option })
      }
    })
  })

  describe('refuses', () => {
    it('to be used once it is closed', async () => {
      const machine = await make(FOREVER)
      machine.close()
      machine.close()
      for (const use of [
        () => machine.start(),
        () => machine.pause(),
        () => machine.resume(),
        () => machine.stop(),
        () => machine.attachMmio(undefined as never),
        () => machine.attachPci(undefined as never),
      ]) {
        assert.throws(use, { name: 'StateError', code: 'ERR_CLOSED' })
      }
    })

    it('to start twice, and another device once it was started', async () => {
      const machine = await make(FOREVER)
      machine.start()
      assert.throws(() => machine.start(), { name: 'StateError', code: 'ERR_ALREADY_ACTIVE' })
      assert.throws(() => machine.attachMmio(undefined as never), { name: 'StateError', code: 'ERR_ALREADY_ACTIVE' })
    })

    it('options that are no machine’s, before it makes anything', async () => {
      for (const [options, code] of [
        [{ smp: 0 }, 'ERR_OPTION_RANGE'],
        [{ smp: 65 }, 'ERR_OPTION_RANGE'],
        [{ smp: 1.5 }, 'ERR_OPTION_RANGE'],
        [{ smp: '2' }, 'ERR_OPTION_TYPE'],
        [{ memory: 8 * MiB }, 'ERR_OPTION_RANGE'],
        [{ memory: 16 * MiB + 1 }, 'ERR_OPTION_RANGE'],
        [{ memory: null }, 'ERR_OPTION_TYPE'],
        [{ memory: { size: 8 * MiB } }, 'ERR_OPTION_RANGE'],
        [{ memory: { size: 17 * MiB, backing: 'hugetlb' } }, 'ERR_OPTION_RANGE'],
        [{ memory: { size: 16 * MiB, backing: 'paper' } }, 'ERR_OPTION_RANGE'],
        [{ memory: { size: 16 * MiB, huge: true } }, 'ERR_OPTION_UNKNOWN'],
        [{ cpus: 2 }, 'ERR_OPTION_UNKNOWN'],
        [{ kernel: undefined }, 'ERR_OPTION_TYPE'],
      ] as const) {
        await assert.rejects(
          make(FOREVER, options as never),
          { name: 'InvalidOptionError', code },
          JSON.stringify(options),
        )
      }
    })

    it('a kernel that is none', async () => {
      await assert.rejects(make([], { kernel: process.execPath }), { name: 'BootError', code: 'ERR_KERNEL_IMAGE' })
      await assert.rejects(make([], { kernel: path.join(directory, 'none') }), { code: 'ENOENT' })
      await assert.rejects(make([], { initrd: path.join(directory, 'none') }), { code: 'ENOENT' })
    })
  })
})
