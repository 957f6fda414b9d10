// How a stock guest comes to its end by itself, and what its machine says of it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Vm, type VmEnd } from '../../lib/vmm/index.ts'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { provideKernel } from '../../scripts/lab/kernels.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'

const SECONDS = 60

describe('a stock guest', () => {
  const closing = leavesNothing()

  const endOf = async (command: string): Promise<{ end: VmEnd; console: string }> => {
    const guest = closing.own(await StockGuest.boot({ kernel: '6.12', nics: [] }))
    guest.vm.console.write(`${command}\n`)
    return { end: await guest.end(SECONDS), console: guest.console }
  }

  it('that panics ends its machine as one that panicked', async () => {
    const { end, console } = await endOf('echo c > /proc/sysrq-trigger')
    assert.deepEqual(end, { why: 'panic' })
    assert.match(console, /Kernel panic - not syncing: sysrq triggered crash/)
  })

  it('that restarts ends its machine as one that was reset', async () => {
    const { end } = await endOf('reboot -f')
    assert.deepEqual(end, { why: 'reset' })
  })

  it('whose initrd is none panics before it has a driver that says so: the console does, and it is reset', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'guest-'))
    closing.add(() => rmSync(directory, { recursive: true }))
    const initrd = path.join(directory, 'initrd')
    writeFileSync(initrd, Buffer.alloc(1 << 20, 'no archive'))
    const { vmlinux } = await provideKernel('6.12')
    const append = 'console=ttyS0 quiet panic=-1 pci=off'
    const vm = closing.own(await Vm.create({ kernel: vmlinux, initrd, memory: 256 << 20, append }))
    let said = ''
    vm.console.on('data', (bytes: Buffer) => {
      said += bytes.toString('latin1')
    })
    const ended = once(vm, 'end', { signal: AbortSignal.timeout(SECONDS * 1000) })
    vm.start()
    assert.deepEqual(await ended, [{ why: 'reset' }])
    assert.match(said, /Kernel panic - not syncing: VFS: Unable to mount root fs/)
  })
})
