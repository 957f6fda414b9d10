// Puts a kernel, its initial RAM disk and its command line into memory, and what it is handed at its entry.

import { closeSync, fstatSync, openSync } from 'node:fs'
import { BootError, InvalidOptionError } from '../errors.ts'
import type { GuestMemory } from '../memory/index.ts'
import { writeBootParams, writePageTables } from './boot-params.ts'
import { loadBzImage } from './bz-image.ts'
import { loadElfKernel } from './elf-kernel.ts'
import type { KernelEntry } from './entry.ts'
import { kindOfKernel } from './kernel-image.ts'
import { loadBytes } from './load-bytes.ts'
import { COMMAND_LINE_SIZE, MEMORY_MAP } from './memory-map.ts'
import { writeStartInfo } from './start-info.ts'

const PAGE = 4096

export interface BootFiles {
  /** A bzImage, or an ELF file with a PVH entry: its bytes say which. */
  kernel: string
  initrd?: string | undefined
  commandLine: string
}

/**
 * Loads them. @returns where the kernel is entered, and how
 * @throws {InvalidOptionError} `ERR_OPTION_RANGE` where the command line is too long
 * @throws {BootError} `ERR_KERNEL_IMAGE`, `ERR_MEMORY_TOO_SMALL`
 * @throws {Error} what `openSync` throws
 */
export function loadBootFiles(memory: GuestMemory, { kernel, initrd, commandLine }: BootFiles): KernelEntry {
  const line = Buffer.from(`${commandLine}\0`)
  const checkLine = (most: number): void => {
    if (line.length <= most + 1) return
    const problem = `has ${line.length - 1} bytes, and the kernel takes ${most}`
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'append', problem)
  }
  checkLine(COMMAND_LINE_SIZE - 1)
  if (kindOfKernel(kernel) === 'elf') {
    const { entry, end } = loadElfKernel(kernel, memory)
    const module = initrd === undefined ? undefined : loadInitrd(initrd, memory, { above: end })
    memory.write(MEMORY_MAP.commandLine, line)
    writeStartInfo(memory, module)
    return { protocol: 'pvh', address: entry }
  }
  const { entry, end, initrdMax, setupHeader } = loadBzImage(kernel, memory, checkLine)
  const disk = initrd === undefined ? undefined : loadInitrd(initrd, memory, { above: end, below: initrdMax + 1 })
  memory.write(MEMORY_MAP.commandLine, line)
  writeBootParams(memory, { setupHeader, initrd: disk })
  writePageTables(memory)
  return { protocol: 'linux64', address: entry }
}

/** As high as there is memory below the hole and the kernel takes it, where the kernel does not grow into it. */
function loadInitrd(
  path: string,
  memory: GuestMemory,
  { above, below = Number.POSITIVE_INFINITY }: { above: number; below?: number },
): { address: number; size: number } {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const top = Math.min(memory.regions[0]?.size ?? 0, below)
    const address = Math.floor((top - size) / PAGE) * PAGE
    if (address < above) {
      throw new BootError(
        'ERR_MEMORY_TOO_SMALL',
        `${path} has ${size} bytes, of which memory has ${Math.max(0, top - above)} left`,
        {
          hint: 'Give the machine more memory.',
          context: { path, size },
        },
      )
    }
    if (!loadBytes({ file, position: 0, length: size }, memory, address)) {
      throw new BootError('ERR_KERNEL_IMAGE', `${path} became shorter while it was read`)
    }
    return { address, size }
  } finally {
    closeSync(file)
  }
}
