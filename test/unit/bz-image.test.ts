// Loading a kernel as distributions ship it: which file is one, where it goes, what it is handed, and what is refused
// before anything of it was written.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { BootError } from '../../lib/errors.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { loadBootFiles } from '../../lib/vmm/boot.ts'
import { loadBzImage } from '../../lib/vmm/bz-image.ts'
import { kindOfKernel } from '../../lib/vmm/kernel-image.ts'
import { memoryRegions } from '../../lib/vmm/memory-map.ts'
import { bytesAt } from '../support/bytes-at.ts'

const MiB = 1 << 20
const GiB = 2 ** 30
const PREFERRED = 2 * MiB
const CODE_SIZE = 0x300
const SECTORS = 2
const CODE_AT = 512 * (1 + SECTORS)

/** Documentation/arch/x86/boot.rst, field by field: what a kernel of today has there. */
function bzImage(change: (file: Buffer) => void = () => undefined): Buffer {
  const file = Buffer.alloc(CODE_AT + CODE_SIZE)
  file.writeUInt8(SECTORS, 0x1f1)
  file.writeUInt32LE(CODE_SIZE / 16, 0x1f4)
  file.writeUInt16LE(0xaa55, 0x1fe)
  file.set([0xeb, 0x6a], 0x200)
  file.write('HdrS', 0x202)
  file.writeUInt16LE(0x20f, 0x206)
  file.writeUInt8(1, 0x211)
  file.writeUInt32LE(0x7fff_ffff, 0x22c)
  file.writeUInt8(1, 0x234)
  file.writeUInt16LE(0x3f, 0x236)
  file.writeUInt32LE(2047, 0x238)
  file.writeBigUInt64LE(BigInt(PREFERRED), 0x258)
  file.writeUInt32LE(0x10_0000, 0x260)
  file.fill('code', CODE_AT)
  change(file)
  return file
}

describe('a bzImage', () => {
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
  const load = (bytes: Uint8Array) => loadBzImage(file('vmlinuz', bytes), memory)
  const boot = (bytes: Uint8Array, { initrd, commandLine = 'quiet' }: { initrd?: string; commandLine?: string } = {}) =>
    loadBootFiles(memory, { kernel: file('vmlinuz', bytes), initrd, commandLine })
  const view = (address: number, length: number) => new DataView(bytesAt(memory, address, length).buffer)
  const params = () => view(0x1_0000, 4096)
  const refused = (code: string, bytes: Uint8Array, message: RegExp) => {
    assert.throws(
      () => boot(bytes),
      (error: unknown) => {
        assert.ok(error instanceof BootError, String(error))
        assert.equal(error.code, code)
        assert.match(error.message, message)
        assert.notEqual(error.hint, undefined)
        return true
      },
    )
    for (const address of [PREFERRED, 0x1_0000, 0x2_0000]) {
      assert.ok(
        bytesAt(memory, address, 8).every((byte) => byte === 0),
        'nothing was written',
      )
    }
  }

  it('goes where it prefers to be, and is entered in 64-bit mode 512 bytes behind', () => {
    const { setupHeader, ...loaded } = load(bzImage())
    assert.deepEqual(loaded, { entry: PREFERRED + 0x200, end: PREFERRED + MiB, initrdMax: 0x7fff_ffff })
    assert.equal(setupHeader.length, 0x26c - 0x1f1)
    assert.equal(Buffer.from(bytesAt(memory, PREFERRED, 4)).toString(), 'code')
    assert.equal(Buffer.from(bytesAt(memory, PREFERRED + CODE_SIZE - 4, 8)).toString(), 'code\0\0\0\0')
    assert.deepEqual(boot(bzImage()), { protocol: 'linux64', address: PREFERRED + 0x200 })
  })

  it('has what its build appended behind, such as a signature, left in the file', () => {
    load(Buffer.concat([bzImage(), Buffer.from('signature')]))
    assert.deepEqual([...bytesAt(memory, PREFERRED + CODE_SIZE, 9)], new Array(9).fill(0))
  })

  it('has four sectors of real-mode code where it says none', () => {
    const code = Buffer.alloc(512 * 5 + CODE_SIZE)
    bzImage((bytes) => bytes.writeUInt8(0, 0x1f1)).copy(code, 0, 0, CODE_AT)
    code.write('moved', 512 * 5)
    load(code)
    assert.equal(Buffer.from(bytesAt(memory, PREFERRED, 5)).toString(), 'moved')
  })

  describe('finds', () => {
    it('its setup header, its command line and the system descriptions in its parameters, and no RAM disk', () => {
      boot(bzImage())
      const found = params()
      assert.equal(found.getUint32(0x202, true), 0x53726448)
      assert.equal(found.getUint8(0x210), 0xff, 'type_of_loader')
      assert.equal(found.getUint8(0x211), 1, 'loadflags')
      assert.equal(found.getUint32(0x218, true), 0, 'ramdisk_image')
      assert.equal(found.getUint32(0x21c, true), 0, 'ramdisk_size')
      assert.equal(Buffer.from(bytesAt(memory, found.getUint32(0x228, true), 6)).toString(), 'quiet\0')
      assert.equal(found.getBigUint64(0x70, true), 0xf0000n, 'acpi_rsdp_addr')
      assert.equal(found.getUint8(0x1ef), 0, 'the sentinel, by which it knows that the rest is ours')
    })

    it('its initial RAM disk at the top of memory', () => {
      boot(bzImage(), { initrd: file('initrd', Buffer.from('cpio')) })
      const at = params().getUint32(0x218, true)
      assert.equal(at, 16 * MiB - 4096)
      assert.equal(Buffer.from(bytesAt(memory, at, params().getUint32(0x21c, true))).toString(), 'cpio')
    })

    it('its initial RAM disk below the address that it says', () => {
      const low = bzImage((bytes) => bytes.writeUInt32LE(8 * MiB - 1, 0x22c))
      boot(low, { initrd: file('initrd', Buffer.alloc(4097)) })
      assert.equal(params().getUint32(0x218, true), 8 * MiB - 8192)
    })

    it('its memory in a table, with what lies above the hole', () => {
      memory.close()
      memory = GuestMemory.allocate({ regions: memoryRegions(5 * GiB) })
      boot(bzImage(), { initrd: file('initrd', Buffer.from('cpio')) })
      const found = params()
      const ranges = Array.from({ length: found.getUint8(0x1e8) }, (_, i) => {
        const at = 0x2d0 + 20 * i
        return [found.getBigUint64(at, true), found.getBigUint64(at + 8, true), found.getUint32(at + 16, true)]
      })
      assert.deepEqual(ranges, [
        [0n, 0x9fc00n, 1],
        [0x9fc00n, 0x60400n, 2],
        [0x10_0000n, 0xbff0_0000n, 1],
        [0xe000_0000n, 0x10_0000n, 2],
        [0x1_0000_0000n, 0x8000_0000n, 1],
      ])
      assert.equal(found.getUint32(0x218, true), 0x8000_0000 - 4096)
    })

    it('the first 4 GiB at their own addresses, and flat segments', () => {
      boot(bzImage())
      const entry = (address: number) => Number(view(address, 8).getBigUint64(0, true))
      const translate = (address: number): number => {
        const upper = entry(0x1_1000)
        assert.equal(upper & 0xfff, 3)
        const directory = entry(upper - 3 + 8 * Math.floor(address / GiB))
        assert.equal(directory & 0xfff, 3)
        const page = entry(directory - 3 + 8 * (Math.floor(address / (2 * MiB)) % 512))
        assert.equal(page % 4096, 0x83)
        return page - 0x83 + (address % (2 * MiB))
      }
      for (const address of [0, 0x1_0000, PREFERRED + 0x200, GiB - 1, 3 * GiB, 4 * GiB - 1])
        assert.equal(translate(address), address)
      assert.equal(entry(0x1_1008), 0)
      assert.equal(view(0x5010, 8).getBigUint64(0, true), 0x00af_9b00_0000_ffffn)
      assert.equal(view(0x5018, 8).getBigUint64(0, true), 0x00cf_9300_0000_ffffn)
    })
  })

  describe('is refused', () => {
    const changed = (code: string, change: (file: Buffer) => void, message: RegExp) =>
      refused(code, bzImage(change), message)

    it('where its protocol is too old, or it has no 64-bit entry', () => {
      changed('ERR_KERNEL_IMAGE', (bytes) => bytes.writeUInt16LE(0x20b, 0x206), /protocol 2\.11, older than 2\.12/)
      changed('ERR_KERNEL_IMAGE', (bytes) => bytes.writeUInt16LE(0x3e, 0x236), /no 64-bit entry/)
      changed('ERR_KERNEL_IMAGE', (bytes) => bytes.writeUInt8(0, 0x211), /zImage/)
    })

    it('where it would lie in the hole, in conventional memory, or beyond', () => {
      for (const address of [0n, 0x9_0000n, 0xc000_0000n, 2n ** 63n]) {
        changed('ERR_KERNEL_IMAGE', (bytes) => bytes.writeBigUInt64LE(address, 0x258), /where nothing can/)
      }
    })

    it('where it has no code', () => {
      changed('ERR_KERNEL_IMAGE', (bytes) => bytes.writeUInt32LE(0x20, 0x1f4), /nothing to load/)
    })

    it('where it is cut at any byte', () => {
      const whole = bzImage()
      for (let length = 0; length < whole.length; length += length < CODE_AT ? 7 : 1) {
        refused('ERR_KERNEL_IMAGE', whole.subarray(0, length), /./)
      }
      refused('ERR_KERNEL_IMAGE', whole.subarray(0, -1), /cut short/)
      changed('ERR_KERNEL_IMAGE', (bytes) => bytes.writeUInt32LE(0xffff_ffff, 0x1f4), /cut short/)
    })

    it('where memory ends before what it needs, and says how far that reaches', () => {
      changed('ERR_MEMORY_TOO_SMALL', (bytes) => bytes.writeUInt32LE(15 * MiB, 0x260), /up to 0x1100000/)
      changed('ERR_MEMORY_TOO_SMALL', (bytes) => bytes.writeBigUInt64LE(BigInt(64 * MiB), 0x258), /up to 0x4100000/)
    })

    it('with a RAM disk that would lie on it, or above what it can reach', () => {
      const initrd = file('initrd', Buffer.alloc(13 * MiB + 1))
      assert.throws(() => boot(bzImage(), { initrd }), { name: 'BootError', code: 'ERR_MEMORY_TOO_SMALL' })
      const low = bzImage((bytes) => bytes.writeUInt32LE(3 * MiB, 0x22c))
      const small = file('small', Buffer.alloc(4096))
      assert.throws(() => boot(low, { initrd: small }), { name: 'BootError', code: 'ERR_MEMORY_TOO_SMALL' })
    })

    it('with a command line longer than it takes', () => {
      boot(bzImage(), { commandLine: 'x'.repeat(2047) })
      assert.throws(() => boot(bzImage(), { commandLine: 'x'.repeat(2048) }), {
        code: 'ERR_OPTION_RANGE',
        message: /^append: has 2048 bytes, and the kernel takes 2047/,
      })
    })
  })

  describe('is told by its bytes from', () => {
    const kind = (bytes: Uint8Array) => kindOfKernel(file('kernel', bytes))
    const other = (bytes: Uint8Array, message: RegExp) =>
      assert.throws(
        () => kind(bytes),
        (error) => error instanceof BootError && error.code === 'ERR_KERNEL_IMAGE' && message.test(error.message),
      )
    const at = (position: number, bytes: Uint8Array | string): Buffer => {
      const made = Buffer.alloc(1024)
      made.set(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, position)
      return made
    }

    it('an ELF file', () => {
      assert.equal(kind(bzImage()), 'bzImage')
      assert.equal(kind(at(0, '\x7fELF')), 'elf')
      assert.equal(kind(Buffer.from('\x7fELF')), 'elf')
    })

    it("other processors' kernels, which are refused by name", () => {
      other(at(0x38, 'ARM\x64'), /of arm64, not of x86-64/)
      other(at(0x38, 'RSC\x05'), /of riscv, not of x86-64/)
      other(at(0, 'MZ\0\0zimg'), /packs itself/)
      other(at(0, Uint8Array.of(0x1f, 0x8b)), /compressed by gzip/)
    })

    it('what is no kernel', () => {
      other(Buffer.alloc(0), /is empty/)
      other(Buffer.from('x'), /no Linux kernel/)
      other(Buffer.from('#!/bin/sh\n'.repeat(100)), /no Linux kernel/)
      other(
        bzImage((bytes) => bytes.writeUInt16LE(0, 0x1fe)),
        /no Linux kernel/,
      )
    })
  })
})
