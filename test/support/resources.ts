// What this process holds of the kernel: open files, threads, vhost workers, shared mappings, network devices. Tests
// compare it before and after.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { RtNetlink } from '../../lib/host/rtnetlink.ts'

/** How many there are of each thing: `'fd anon_inode:[eventfd]'` → 4. */
export type Resources = ReadonlyMap<string, number>

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code

/** What `read` returns, or undefined where the file went away in the meantime: a process that ended, an fd closed. */
function unlessGone(read: () => string): string | undefined {
  try {
    return read().trimEnd()
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESRCH') return undefined
    throw error
  }
}

// The numbers of sockets and pipes say nothing; /proc/self/fd is the directory being read here.
export function openFiles(): string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => unlessGone(() => readlinkSync(`/proc/self/fd/${fd}`)) ?? [])
    .map((target) => `fd ${target.replace(/^(socket|pipe):\[\d+\]$/, '$1')}`)
}

/** The names of this process's threads, those that were joined this moment among them: the kernel lists a thread for a while longer. */
export function threadNames(): string[] {
  return readdirSync('/proc/self/task').flatMap(
    (tid) => unlessGone(() => readFileSync(`/proc/self/task/${tid}/comm`, 'utf8')) ?? [],
  )
}

// libuv makes the threads of its pool at the first file or DNS request and keeps them; they are not the caller's.
function threads(): string[] {
  return threadNames()
    .filter((comm) => comm !== 'libuv-worker' && !isVhostWorker(comm))
    .map((comm) => `thread ${comm}`)
}

function isVhostWorker(comm: string): boolean {
  return /^vhost-\d+$/.test(comm)
}

// Each VM has two: one for its timer, and one that gives back what large pages were cut for (arch/x86/kvm/i8254.c, mmu/mmu.c).
function isKvmThread(comm: string): boolean {
  return /^kvm-(pit\/|nx-lpage-recovery-)\d+$/.test(comm)
}

// Processes known to be no such threads, so that repeated scans stay cheap. A kernel thread has its own name from the
// moment it is seen, but for kthreadd's children that are just being made.
const others = new Set<string>()

/** The names of this machine's kernel threads that work for vhost or for a VM. */
function kernelThreads(): string[] {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && !others.has(name))
  const found: string[] = []
  for (const pid of processes) {
    const comm = unlessGone(() => readFileSync(`/proc/${pid}/comm`, 'utf8'))
    if (comm === undefined) continue
    if (isVhostWorker(comm) || isKvmThread(comm)) found.push(comm)
    else if (!comm.startsWith('kthread')) others.add(pid)
  }
  return found
}

// Since Linux 6.4 vhost's workers are threads of the owner's process, before they were kernel threads of their own
// (`vhost-<tid of the owner>`).
function workers(): string[] {
  const found = kernelThreads()
  const own = [...found, ...threadNames()].filter(isVhostWorker)
  return [
    ...own.map((comm) => `vhost worker ${comm}`),
    ...found.filter(isKvmThread).map((comm) => `KVM thread ${comm}`),
  ]
}

/** The vhost workers of this machine. */
export const vhostWorkers = (): string[] => workers().filter((worker) => worker.startsWith('vhost'))

// Private anonymous memory cannot be told from V8's own; memfds can, by their names.
function memfdMappings(): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const match = /^([0-9a-f]+)-([0-9a-f]+) .* (\/memfd:\S+) \(deleted\)$/.exec(line)
      if (match === null) return []
      const bytes = Number.parseInt(match[2] as string, 16) - Number.parseInt(match[1] as string, 16)
      return [`mapping of ${match[3]}, ${bytes} bytes`]
    })
}

/** The network devices of this network namespace: `'veth0 (3, veth)'`. */
export function networkDevices(): string[] {
  const netlink = RtNetlink.open()
  try {
    return netlink.listLinks().map(({ ifname, index, kind }) => `${ifname} (${index}, ${kind ?? 'no kind'})`)
  } finally {
    netlink.close()
  }
}

/** Everything this process holds now; empty on other systems than Linux. */
export function resources(): Resources {
  if (process.platform !== 'linux') return new Map()
  const devices = networkDevices().map((device) => `network device ${device}`)
  const counts = new Map<string, number>()
  for (const thing of [...openFiles(), ...threads(), ...workers(), ...memfdMappings(), ...devices]) {
    counts.set(thing, (counts.get(thing) ?? 0) + 1)
  }
  return counts
}

/** One line for each thing that there is more or less of: `'fd /dev/vhost-net: 0 before, 1 after'`. */
export function diff(before: Resources, after: Resources): string[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .sort()
    .filter((thing) => before.get(thing) !== after.get(thing))
    .map((thing) => `${thing}: ${before.get(thing) ?? 0} before, ${after.get(thing) ?? 0} after`)
}

// What only we open. Looking at it again would not be fair: the collector closes forgotten handles in the meantime.
const exact = /^fd (\/dev\/(vhost|net\/tun)|\/memfd:|anon_inode:\[event(fd|poll)\])/

/**
 * Compares with now. Files of ours must be right at once; the rest is looked at again while it differs: a thread or
 * process that was waited for, the pipes to it and memory behind a detached view are there for another moment. Resolves
 * to what still differs after `timeoutMs`.
 */
export async function diffSoon(before: Resources, timeoutMs = 2000): Promise<string[]> {
  const deadline = Date.now() + timeoutMs
  let swept = false
  for (;;) {
    const difference = diff(before, resources())
    const final = difference.length === 0 || difference.some((line) => exact.test(line))
    if (final || Date.now() > deadline) return difference
    if (!swept && Date.now() > deadline - timeoutMs / 2) {
      sweep()
      swept = true
    }
    await setImmediate()
  }
}

/** A window that nobody refers to keeps its memory mapped until V8 sweeps it, which may not be for a while. */
function sweep(): void {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}
