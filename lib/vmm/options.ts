// What a machine is made of: options and their checks.

import { existsSync } from 'node:fs'
import { InvalidOptionError } from '../errors.ts'
import type { BackingOptions } from '../memory/index.ts'
import type { VirtioNetOptions } from '../nic.ts'
import { checkInteger, checkObject, checkString, type Unchecked } from '../options.ts'

const MiB = 1 << 20
const LEAST_MEMORY = 16 * MiB
const MOST_MEMORY = 2 ** 40
const DEFAULT_MEMORY = 256 * MiB
/** There where the kernel was built with them. */
const TRANSPARENT_HUGE_PAGES = '/sys/kernel/mm/transparent_hugepage'
/** As many as have a local APIC id of 8 bits. */
const MOST_CPUS = 64

export interface VmMemoryOptions extends BackingOptions {
  /** Bytes: whole MiB, at least 16 of them; whole pages of `hugetlb`. */
  size: number
  /** Default `anonymous`, here: as with QEMU, it is on huge pages where the kernel has some (`thp`). */
  backing?: NonNullable<BackingOptions['backing']>
}

/** A NIC on vhost-net: what {@link VirtioNet.open} takes but for the memory, and how the guest reaches it. */
export interface VmNicOptions extends Omit<VirtioNetOptions, 'memory' | 'queuePairs'> {
  /** Default `'pci'`. */
  transport?: 'pci' | 'mmio'
  /** MSI-X vectors; PCI only. Default one for each queue and one for the configuration. */
  vectors?: number
  /** 1..256, or one for each processor: the default, but where `backend` has `fds`, of which each is a queue. */
  queuePairs?: number | 'per-vcpu'
}

export interface VmOptions {
  /** What a distribution ships as vmlinuz (a bzImage), or a vmlinux with a PVH entry: the file's bytes say which. */
  kernel: string
  initrd?: string
  /** The kernel's command line. Default `'console=ttyS0'`. */
  append?: string
  /** Bytes of memory: whole MiB, at least 16 of them; or these, and what they are made of. Default 256 MiB. */
  memory?: number | VmMemoryOptions
  /** Processors, 1..64. Default 1. */
  smp?: number
  /** In the order in which the guest finds them. */
  nics?: readonly VmNicOptions[]
}

/** How a device is reached, apart from what it is. */
export interface CheckedNic {
  transport: 'pci' | 'mmio'
  vectors: number | undefined
  options: Omit<VirtioNetOptions, 'memory'>
}

export interface CheckedVm {
  kernel: string
  initrd: string | undefined
  commandLine: string
  memory: VmMemoryOptions
  smp: number
  nics: readonly CheckedNic[]
}

function checkMemory(given: unknown): VmMemoryOptions {
  if (typeof given !== 'object') {
    const size = checkInteger(given, 'memory', LEAST_MEMORY, MOST_MEMORY, DEFAULT_MEMORY)
    return checkWhole({ ...usual(), size }, MiB, 'memory')
  }
  // The rest is checked by what makes the memory.
  const options = given as VmMemoryOptions
  const size = checkInteger(options?.size, 'memory.size', LEAST_MEMORY, MOST_MEMORY)
  const page = options.backing === 'hugetlb' ? (options.pageSize ?? 2 * MiB) : MiB
  return checkWhole({ ...(options.backing === undefined ? usual() : {}), ...options, size }, page, 'memory.size')
}

/**
 * A guest's page is looked up in two tables, its own and the host's: with huge pages the host's are fewer, and a boot
 * leaves the guest for 500 of them instead of 22,000.
 */
function usual(): Omit<VmMemoryOptions, 'size'> {
  return { backing: 'anonymous', ...(existsSync(TRANSPARENT_HUGE_PAGES) ? { thp: true } : {}) }
}

function checkWhole(memory: VmMemoryOptions, unit: number, option: string): VmMemoryOptions {
  if (memory.size % unit === 0) return memory
  throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be a multiple of ${unit / MiB} MiB`)
}

function checkNic(given: unknown, index: number, smp: number): CheckedNic {
  if (typeof given !== 'object' || given === null) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', `nics[${index}]`, 'must be an object')
  }
  const { transport = 'pci', vectors, queuePairs, ...settings } = given as VmNicOptions
  if (transport !== 'pci' && transport !== 'mmio') {
    const problem = `must be 'pci' or 'mmio', not '${transport}'`
    throw new InvalidOptionError('ERR_OPTION_RANGE', `nics[${index}].transport`, problem)
  }
  if (transport === 'mmio' && vectors !== undefined) {
    throw new InvalidOptionError(
      'ERR_OPTION_CONFLICT',
      `nics[${index}].vectors`,
      'a device over MMIO has one interrupt',
    )
  }
  const perVcpu = queuePairs === 'per-vcpu' || (queuePairs === undefined && settings.backend?.fds === undefined)
  const pairs = perVcpu ? smp : queuePairs
  return { transport, vectors, options: { ...settings, ...(pairs === undefined ? {} : { queuePairs: pairs }) } }
}

function checkNics(given: unknown, smp: number): CheckedNic[] {
  if (given === undefined) return []
  if (!Array.isArray(given)) throw new InvalidOptionError('ERR_OPTION_TYPE', 'nics', 'must be an array')
  return given.map((nic, index) => checkNic(nic, index, smp))
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`, `ERR_OPTION_CONFLICT` */
export function checkVmOptions(options: unknown): CheckedVm {
  const given: Unchecked = checkObject(options, ['kernel', 'initrd', 'append', 'memory', 'smp', 'nics'])
  const smp = checkInteger(given.smp, 'smp', 1, MOST_CPUS, 1)
  return {
    kernel: checkString(given.kernel, 'kernel'),
    initrd: given.initrd === undefined ? undefined : checkString(given.initrd, 'initrd'),
    commandLine: checkString(given.append, 'append', 'console=ttyS0'),
    memory: checkMemory(given.memory),
    smp,
    nics: checkNics(given.nics, smp),
  }
}
