// vCPU threads: what a guest's accesses come to, and how a thread is held and ended, whatever it is doing.

import assert from 'node:assert/strict'
import { InterruptStatus, type Registers } from '../../lib/event/index.ts'
import { MMIO, RealMode } from '../support/real-mode.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { soon } from '../support/soon.ts'

const HLT = 0xf4
/** `jmp $` */
const FOREVER = [0xeb, 0xfe]

class Recorded implements Registers {
  readonly log: string[] = []
  readonly size: number
  answer: (offset: number) => number = () => 0

  constructor(size: number) {
    this.size = size
  }

  read(offset: number, width: number): number {
    this.log.push(`read ${offset} ${width}`)
    return this.answer(offset)
  }

  write(offset: number, width: number, value: number): void {
    this.log.push(`write ${offset} ${width} 0x${value.toString(16)}`)
  }
}

describe('a vCPU thread', () => {
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

  const boot = (program: readonly number[], registers?: ConstructorParameters<typeof RealMode>[1]) => {
    machine = new RealMode(program, registers)
    return machine
  }
  const ended = async ({ ends }: RealMode) => {
    await soon('the end', () => ends.length > 0)
    return ends[0]
  }
  const halted = { why: 'exit', exit: 'KVM_EXIT_HLT', detail: 0 }

  describe('serves', () => {
    it('ports, by their offset in the window, and gives what they read to the guest', async () => {
      // mov al,0x2a; out 0x10,al; in al,0x13; out 0x11,al; hlt
      const guest = boot([0xb0, 0x2a, 0xe6, 0x10, 0xe4, 0x13, 0xe6, 0x11, HLT])
      const ports = new Recorded(4)
      ports.answer = (offset) => 0x50 + offset
      guest.bus.map('ports', 0x10, ports)
      guest.thread.resume()
      assert.deepEqual(await ended(guest), halted)
      assert.deepEqual(ports.log, ['write 0 1 0x2a', 'read 3 1', 'write 1 1 0x53'])
      const { exits, portAccesses, memoryAccesses, unmapped, asked } = guest.thread.counters()
      assert.deepEqual(
        { exits, portAccesses, memoryAccesses, unmapped, asked },
        { exits: 4, portAccesses: 3, memoryAccesses: 0, unmapped: 0, asked: 3 },
      )
    })

    it('each access of a string instruction', async () => {
      // mov cx,3; mov dx,0x10; rep outsb es:[si]; hlt
      const guest = boot([0xb9, 3, 0, 0xba, 0x10, 0, 0xf3, 0x26, 0x6e, HLT], { rsi: 0x2000n })
      guest.memory.write(0x2000, Uint8Array.of(7, 8, 9))
      const ports = new Recorded(1)
      guest.bus.map('ports', 0x10, ports)
      guest.thread.resume()
      assert.deepEqual(await ended(guest), halted)
      assert.deepEqual(ports.log, ['write 0 1 0x7', 'write 0 1 0x8', 'write 0 1 0x9'])
    })

    it('memory that is none, in widths of 1, 2 and 4 bytes', async () => {
      // mov [0],al; mov [2],ax; mov [4],eax; mov eax,[8]; hlt
      const guest = boot([0xa2, 0, 0, 0xa3, 2, 0, 0x66, 0xa3, 4, 0, 0x66, 0xa1, 8, 0, HLT], { rax: 0x1234_5678n })
      const window = new Recorded(16)
      window.answer = () => 0xffff_fff0
      guest.bus.map('memory', MMIO, window)
      guest.thread.resume()
      assert.deepEqual(await ended(guest), halted)
      assert.deepEqual(window.log, ['write 0 1 0x78', 'write 2 2 0x5678', 'write 4 4 0x12345678', 'read 8 4'])
      assert.equal(guest.vcpu.getRegisters().rax, 0xffff_fff0n)
    })

    it('the native part of a window on its own thread, and only what lies wholly within it', async () => {
      using status = new InterruptStatus(1)
      status.setStarted(true)
      status.begin(0)
      status.setUsed(0, 1)
      status.configChanged()
      // mov eax,[4]; mov ebx,eax; mov eax,3; mov [8],eax; mov eax,[4]; mov ecx,eax; mov eax,[2]; mov eax,[6]; hlt
      const program = [
        [0x66, 0xa1, 4, 0, 0x66, 0x89, 0xc3],
        [0x66, 0xb8, 3, 0, 0, 0, 0x66, 0xa3, 8, 0],
        [0x66, 0xa1, 4, 0, 0x66, 0x89, 0xc1],
        [0x66, 0xa1, 2, 0, 0x66, 0xa1, 10, 0, HLT],
      ]
      const guest = boot(program.flat())
      const window = new Recorded(16)
      guest.bus.map('memory', MMIO, {
        size: 16,
        nativePart: { offset: 4, registers: status },
        read: (...access) => window.read(...access),
        write: (...access) => window.write(...access),
      })
      guest.thread.resume()
      assert.deepEqual(await ended(guest), halted)
      assert.deepEqual(window.log, ['read 2 4', 'read 10 4'])
      const { rbx, rcx } = guest.vcpu.getRegisters()
      assert.deepEqual([rbx, rcx], [3n, 0n])
      assert.equal(status.read(), 0)
      assert.equal(guest.thread.counters().asked, 2)
    })

    it('what has no window with ones, and counts it', async () => {
      // mov eax,[8]; in al,0x99 (its window ended); hlt
      const guest = boot([0x66, 0xa1, 8, 0, 0xe4, 0x99, HLT])
      guest.bus.map('memory', MMIO, new Recorded(10))
      const unmap = guest.bus.map('ports', 0x99, new Recorded(1))
      unmap()
      unmap()
      guest.thread.resume()
      assert.deepEqual(await ended(guest), halted)
      assert.equal(guest.vcpu.getRegisters().rax, 0xffff_ffffn)
      assert.equal(guest.thread.counters().unmapped, 2)
    })
  })

  describe('refuses', () => {
    it('windows that overlap, are empty, or end beyond the space', () => {
      const { bus } = boot([HLT])
      bus.map('ports', 0x10, new Recorded(4))
      bus.map('ports', 0x14, new Recorded(4))
      bus.map('ports', 0x0f, new Recorded(1))
      for (const [address, size] of [
        [0x13, 1],
        [0x0e, 2],
        [0, 0x100],
        [0x12, 1],
      ] as const) {
        assert.throws(() => bus.map('ports', address, new Recorded(size)), { code: 'EEXIST' })
      }
      assert.throws(() => bus.map('ports', 0, new Recorded(0)), { code: 'EINVAL' })
      assert.throws(() => bus.map('ports', 0xffff, new Recorded(2)), { code: 'EINVAL' })
    })
  })

  describe('is held', () => {
    it('before it begins, in the midst of a loop, and goes on where it was', async () => {
      // inc ecx; jmp -4
      const guest = boot([0x66, 0x41, 0xeb, 0xfc])
      assert.equal(guest.vcpu.getRegisters().rcx, 0n)
      let before = 0n
      for (let i = 0; i < 10; i++) {
        guest.thread.resume()
        await soon('the loop', () => {
          guest.thread.pause()
          const { rcx } = guest.vcpu.getRegisters()
          if (rcx === before) guest.thread.resume()
          return rcx !== before
        })
        guest.thread.pause()
        before = guest.vcpu.getRegisters().rcx
        assert.equal(guest.vcpu.getRegisters().rcx, before)
      }
      assert.deepEqual(guest.ends, [])
    })

    it('from within an access, which is done before it is', async () => {
      // in al,0x10; out 0x11,al; hlt
      const guest = boot([0xe4, 0x10, 0xe6, 0x11, HLT])
      const ports = new Recorded(2)
      ports.answer = () => {
        guest.thread.pause()
        guest.thread.pause()
        return 0x77
      }
      guest.bus.map('ports', 0x10, ports)
      guest.thread.resume()
      await soon('the access', () => ports.log.length > 0)
      guest.thread.pause()
      assert.equal(guest.vcpu.getRegisters().rax & 0xffn, 0x77n)
      assert.deepEqual(ports.log, ['read 0 1'])
      guest.thread.resume()
      assert.deepEqual(await ended(guest), halted)
      assert.deepEqual(ports.log, ['read 0 1', 'write 1 1 0x77'])
    })
  })

  describe('ends', () => {
    it('when it is closed, before it began', () => {
      boot(FOREVER).thread.close()
    })

    it('when it is closed in the midst of a loop, twice', () => {
      const { thread } = boot(FOREVER)
      thread.resume()
      thread.close()
      thread.close()
    })

    it('when it is closed while it is held', () => {
      const { thread } = boot(FOREVER)
      thread.resume()
      thread.pause()
      thread.close()
    })

    it('when it is closed from within an access, for whose answer nobody waits', async () => {
      const guest = boot([0xe4, 0x10, 0xe6, 0x10, HLT])
      const ports = new Recorded(1)
      ports.answer = () => {
        guest.thread.close()
        return 1
      }
      guest.bus.map('ports', 0x10, ports)
      guest.thread.resume()
      await soon('the access', () => ports.log.length > 0)
      assert.deepEqual(ports.log, ['read 0 1'])
      assert.deepEqual(guest.ends, [])
    })

    it('while it storms what has no window', async () => {
      // mov ax,[0]; jmp -5
      const guest = boot([0xa1, 0, 0, 0xeb, 0xfb])
      guest.thread.resume()
      await soon('the storm', () => guest.thread.counters().unmapped > 1000)
      guest.thread.close()
    })

    it('with the cause, held, when registers throw', async () => {
      const guest = boot([0xe4, 0x10, 0xe6, 0x10, HLT])
      const ports = new Recorded(1)
      const error = new Error('a bug')
      ports.answer = () => {
        throw error
      }
      guest.bus.map('ports', 0x10, ports)
      guest.thread.resume()
      assert.deepEqual(await ended(guest), { why: 'registers', error })
      guest.thread.pause()
      assert.deepEqual(ports.log, ['read 0 1'])
    })

    it('when the guest faults three times over', async () => {
      // lidt [es:0x2000] (no entry at all); int3
      const guest = boot([0x26, 0x0f, 0x01, 0x1e, 0x00, 0x20, 0xcc])
      guest.thread.resume()
      assert.deepEqual(await ended(guest), { why: 'exit', exit: 'KVM_EXIT_SHUTDOWN', detail: 0 })
    })
  })
})
