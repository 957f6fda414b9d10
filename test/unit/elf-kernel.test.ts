// Loading a kernel: what is one, where it goes, and what is refused before anything of it was written.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { BootError, InvalidOptionError } from '../../lib/errors.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { loadBootFiles } from '../../lib/vmm/boot.ts'
import { loadElfKernel } from '../../lib/vmm/elf-kernel.ts'
import { bytesAt } from '../support/bytes-at.ts'

const MiB = 1 << 20
const CODE = Uint8Array.of(1, 2, 3, 4)

interface Shape {
  note?: { name?: string; type?: number; value?: number; size?: number }
  address?: number
  fileSize?: number
  memorySize?: number
  notesSize?: number
}

/** A kernel with one segment and one note, each where `shape` has it. */
function elf({ note = {}, address = 2 * MiB, fileSize = 4, memorySize = 0x1000, notesSize }: Shape = {}): Buffer {
  const file = Buffer.alloc(64 + 2 * 56 + 24 + 4)
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  file.writeUInt16LE(2, 16)
  file.writeUInt16LE(62, 18)
  file.writeBigUInt64LE(64n, 32)
  file.writeUInt16LE(56, 54)
  file.writeUInt16LE(2, 56)
  const header = (i: number, type: number, offset: number, to: number, inFile: number, inMemory: number) => {
    const at = 64 + 56 * i
    file.writeUInt32LE(type, at)
    for (const [j, word] of [offset, 0, to, inFile, inMemory].entries())
      file.writeBigUInt64LE(BigInt(word), at + 8 + 8 * j)
  }
  const notes = 64 + 2 * 56
  header(0, 1, notes + 24, address, fileSize, memorySize)
  header(1, 4, notes, 0, notesSize ?? 20, notesSize ?? 20)
  file.writeUInt32LE(4, notes)
  file.writeUInt32LE(note.size ?? 4, notes + 4)
  file.writeUInt32LE(note.type ?? 18, notes + 8)
  file.write(note.name ?? 'Xen\0', notes + 12, 'latin1')
  file.writeUInt32LE(note.value ?? 0x20_0010, notes + 16)
  file.set(CODE, notes + 24)
  return file
}

describe('a kernel', () => {
  let directory: string
  let memory: NativeMemory

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'kernel-'))
    memory = GuestMemory.allocate({ size: 16 * MiB })
  })

  afterEach(() => {
    memory.close()
    rmSync(directory, { recursive: true })
  })

  const file = (name: string, bytes: Uint8Array): string => {
    const at = path.join(directory, name)
    writeFileSync(at, bytes)
    return at
  }
  const load = (bytes: Uint8Array) => loadElfKernel(file('vmlinux', bytes), memory)
  const refused = (code: string, bytes: Uint8Array, message: RegExp) => {
    assert.throws(
      () => load(bytes),
      (error: unknown) => {
        assert.ok(error instanceof BootError, String(error))
        assert.equal(error.code, code)
        assert.match(error.message, message)
        assert.notEqual(error.hint, undefined)
        return true
      },
    )
    assert.ok(
      bytesAt(memory, 2 * MiB, 4).every((byte) => byte === 0),
      'nothing was written',
    )
  }
  const changed = (change: (file: Buffer) => void): Buffer => {
    const bytes = elf()
    change(bytes)
    return bytes
  }

  it('goes to the physical address of its segment, and is entered where its note says', () => {
    assert.deepEqual(load(elf()), { entry: 0x20_0010, end: 2 * MiB + 0x1000 })
    assert.deepEqual([...bytesAt(memory, 2 * MiB, 5)], [...CODE, 0])
  })

  describe('is refused', () => {
    it('where it is empty, a text, of 32 bits or of another processor', () => {
      refused('ERR_KERNEL_IMAGE', Buffer.alloc(0), /no ELF file/)
      refused('ERR_KERNEL_IMAGE', Buffer.from('#!/bin/sh\n'.repeat(10)), /no 64-bit ELF file/)
      refused(
        'ERR_KERNEL_IMAGE',
        changed((bytes) => bytes.writeUInt8(1, 4)),
        /no 64-bit ELF file/,
      )
      refused(
        'ERR_KERNEL_IMAGE',
        changed((bytes) => bytes.writeUInt16LE(9999, 18)),
        /is not of x86-64/,
      )
    })

    it("where it is of another processor, by that one's name: of 32 bits and big-endian ones, too", () => {
      const of = (machine: number, bits: 1 | 2, order: 1 | 2) =>
        changed((bytes) => {
          bytes.set([bits, order], 4)
          if (order === 1) bytes.writeUInt16LE(machine, 18)
          else bytes.writeUInt16BE(machine, 18)
        })
      refused('ERR_KERNEL_IMAGE', of(183, 2, 1), /is a kernel of arm64, not of x86-64/)
      refused('ERR_KERNEL_IMAGE', of(3, 1, 1), /is a kernel of 32-bit x86, not of x86-64/)
      refused('ERR_KERNEL_IMAGE', of(22, 2, 2), /is a kernel of s390, not of x86-64/)
    })

    it('where it has no PVH entry, and says how to come by one that has', () => {
      refused('ERR_KERNEL_IMAGE', elf({ note: { type: 1 } }), /no PVH entry/)
      refused('ERR_KERNEL_IMAGE', elf({ note: { name: 'GNU\0' } }), /no PVH entry/)
      refused('ERR_KERNEL_IMAGE', elf({ note: { size: 2 } }), /no PVH entry/)
    })

    it('where it is cut at any byte', () => {
      const whole = elf()
      for (let length = 0; length < whole.length; length++) refused('ERR_KERNEL_IMAGE', whole.subarray(0, length), /./)
    })

    it('where its headers, notes or segments lie outside of it', () => {
      refused(
        'ERR_KERNEL_IMAGE',
        changed((bytes) => bytes.writeBigUInt64LE(2n ** 63n, 32)),
        /cut short/,
      )
      refused(
        'ERR_KERNEL_IMAGE',
        changed((bytes) => bytes.writeUInt16LE(0xffff, 56)),
        /cut short/,
      )
      refused('ERR_KERNEL_IMAGE', elf({ notesSize: 2 ** 40 }), /too many notes/)
      refused('ERR_KERNEL_IMAGE', elf({ note: { size: 0xffff_ffff } }), /broken note/)
      refused('ERR_KERNEL_IMAGE', elf({ fileSize: 0x1001 }), /cut short/)
      refused('ERR_KERNEL_IMAGE', elf({ fileSize: 0x800 }), /cut short/)
    })

    it('where memory ends before it does, and says how far it reaches', () => {
      refused('ERR_MEMORY_TOO_SMALL', elf({ memorySize: 15 * MiB }), /up to 0x1100000/)
      refused('ERR_MEMORY_TOO_SMALL', elf({ address: 2 ** 52 }), /needs memory/)
    })
  })

  describe('comes with', () => {
    const boot = (initrd: string | undefined, commandLine = 'quiet') =>
      loadBootFiles(memory, { kernel: file('vmlinux', elf()), initrd, commandLine })

    it('an initial RAM disk at the top of memory, and its start information leads to all of it', () => {
      boot(file('initrd', Buffer.from('cpio')))
      const view = (address: number, length: number) => new DataView(bytesAt(memory, address, length).buffer)
      const info = view(0x6000, 56)
      assert.equal(info.getUint32(0, true), 0x336ec578)
      assert.equal(info.getUint32(12, true), 1)
      const module = view(Number(info.getBigUint64(16, true)), 32)
      const at = Number(module.getBigUint64(0, true))
      assert.equal(at, 16 * MiB - 4096)
      assert.equal(Buffer.from(bytesAt(memory, at, Number(module.getBigUint64(8, true)))).toString(), 'cpio')
      assert.equal(Buffer.from(bytesAt(memory, Number(info.getBigUint64(24, true)), 6)).toString(), 'quiet\0')
    })

    it('no RAM disk where there is none', () => {
      boot(undefined)
      assert.deepEqual([...bytesAt(memory, 0x600c, 4)], [0, 0, 0, 0])
    })

    it('no RAM disk that would lie on the kernel', () => {
      const initrd = file('initrd', Buffer.alloc(14 * MiB))
      assert.throws(() => boot(initrd), { name: 'BootError', code: 'ERR_MEMORY_TOO_SMALL' })
    })

    it('no command line longer than there is room for', () => {
      assert.throws(
        () => boot(undefined, 'x'.repeat(65536)),
        (error) => error instanceof InvalidOptionError && error.code === 'ERR_OPTION_RANGE',
      )
    })

    it('an error of the system where a file is not there', () => {
      assert.throws(() => boot(path.join(directory, 'none')), { code: 'ENOENT' })
      assert.throws(() => loadElfKernel(path.join(directory, 'none'), memory), { code: 'ENOENT' })
    })
  })
})
