// Loads a Linux kernel as distributions ship it, a bzImage, for its 64-bit entry (Documentation/arch/x86/boot.rst).

import type { GuestMemory } from '../memory/index.ts'
import { KernelFile } from './kernel-file.ts'
import { MEMORY_MAP } from './memory-map.ts'

const SECTOR = 512
/** The setup header as far as version 2.12 has it: what is read here lies below. */
const HEADER_END = 0x268
/** 2.12, of Linux 3.8: the first one with `xloadflags`. */
const OLDEST = 0x20c
/** The 64-bit entry lies behind the 32-bit one, which is where the kernel is loaded. */
const ENTRY_64 = 0x200

/** Offsets in the file, and in struct boot_params. */
export const SETUP = {
  setup_sects: 0x1f1,
  syssize: 0x1f4,
  boot_flag: 0x1fe,
  /** A jump over the header: its second byte says where that ends. */
  jump: 0x200,
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  loadflags: 0x211,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
  cmd_line_ptr: 0x228,
  initrd_addr_max: 0x22c,
  relocatable_kernel: 0x234,
  xloadflags: 0x236,
  cmdline_size: 0x238,
  pref_address: 0x258,
  init_size: 0x260,
} as const

const BOOT_FLAG = 0xaa55
/** `HdrS`. */
const MAGIC = 0x5372_6448
const LOADED_HIGH = 1
const XLF_KERNEL_64 = 1

export interface LoadedBzImage {
  /** Where it is entered, in 64-bit mode. */
  entry: number
  /** The first address behind what it needs until it knows its memory. */
  end: number
  /** The highest address that its initial RAM disk may have a byte at. */
  initrdMax: number
  /** What is handed back to it in struct boot_params, from {@link SETUP.setup_sects} on. */
  setupHeader: Uint8Array
}

/** Whether a file that begins so is one. `bytes` are the first {@link SETUP.version} of it, or more. */
export function isBzImage(bytes: DataView): boolean {
  return bytes.getUint16(SETUP.boot_flag, true) === BOOT_FLAG && bytes.getUint32(SETUP.header, true) === MAGIC
}

/**
 * @param check called with the longest command line that it takes, without NUL, before anything is loaded
 * @throws {BootError} `ERR_KERNEL_IMAGE` where it cannot be booted, `ERR_MEMORY_TOO_SMALL` where it does not fit
 * @throws {Error} what `openSync` and `check` throw
 */
export function loadBzImage(
  path: string,
  memory: GuestMemory,
  check: (commandLineMax: number) => void = () => undefined,
): LoadedBzImage {
  return KernelFile.with(path, (file) => {
    const header = file.read(0, HEADER_END)
    if (!isBzImage(header)) throw file.refusal('is no bzImage')
    const version = header.getUint16(SETUP.version, true)
    if (version < OLDEST) throw file.refusal(`has boot protocol ${version >> 8}.${version & 0xff}, older than 2.12`)
    if ((header.getUint8(SETUP.loadflags) & LOADED_HIGH) === 0) throw file.refusal('is a zImage, to be loaded low')
    if ((header.getUint16(SETUP.xloadflags, true) & XLF_KERNEL_64) === 0) {
      throw file.refusal('has no 64-bit entry: it is of 32-bit x86')
    }
    check(header.getUint32(SETUP.cmdline_size, true))

    // Below that it would move itself (arch/x86/boot/compressed/head_64.S).
    const address = Number(header.getBigUint64(SETUP.pref_address, true))
    if (address < MEMORY_MAP.high || address >= MEMORY_MAP.hole) throw file.refusal('wants to lie where nothing can')
    // A zero means four, for the sake of very old boot loaders.
    const start = SECTOR * (1 + (header.getUint8(SETUP.setup_sects) || 4))
    const length = 16 * header.getUint32(SETUP.syssize, true)
    if (length <= ENTRY_64) throw file.refusal('has nothing to load')
    const room = Math.max(length, header.getUint32(SETUP.init_size, true))
    const headerEnd = SETUP.header + header.getUint8(SETUP.jump + 1)
    const setupHeader = file.read(SETUP.setup_sects, Math.max(headerEnd, HEADER_END) - SETUP.setup_sects)
    file.load({ position: start, length }, memory, address, room)
    return {
      entry: address + ENTRY_64,
      end: address + room,
      initrdMax: header.getUint32(SETUP.initrd_addr_max, true),
      setupHeader: new Uint8Array(setupHeader.buffer),
    }
  })
}
