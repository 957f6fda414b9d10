// A thread that runs a vCPU (KVM_RUN), and what becomes of it.

import { KVM_EXIT } from '../abi/kvm.ts'
import {
  binding,
  errnoName,
  Handle,
  type Hints,
  type NativeFd,
  type NativeVcpuThread,
  systemCall,
} from '../binding/index.ts'
import { SystemCallError } from '../errors.ts'
import type { GuestBus } from './guest-bus.ts'

export type KvmExitName = keyof typeof KVM_EXIT

/** Why a vCPU runs no more. */
export type VcpuEnd =
  /** KVM returned with something that nobody can go on from; `detail` is its type, suberror or hardware reason. */
  | { readonly why: 'exit'; readonly exit: KvmExitName | number; readonly detail: number }
  /** KVM_RUN failed. */
  | { readonly why: 'error'; readonly error: SystemCallError }
  /** Registers of this process threw. */
  | { readonly why: 'registers'; readonly error: unknown }

/** What a vCPU did since it was started. */
export interface VcpuCounters {
  /** Returns of KVM_RUN to user space, but for those that held it. */
  exits: number
  portAccesses: number
  memoryAccesses: number
  /** Accesses at which nothing lies. */
  unmapped: number
  /** Accesses that JavaScript answered. */
  asked: number
}

/** The values of `vcpuCounters`, in the addon's order. */
const VCPU_COUNTERS = ['exits', 'portAccesses', 'memoryAccesses', 'unmapped', 'asked'] as const

const hints: Hints = {
  EAGAIN: 'No thread could be started: check RLIMIT_NPROC and the pids limit of the cgroup.',
  EBUSY: 'A vCPU needs a real-time signal that nobody else in this process has a handler for.',
}

const exitNames = new Map(Object.entries(KVM_EXIT).map(([name, number]) => [number as number, name as KvmExitName]))

/**
 * Runs a vCPU from `resume` on. Keeps the process alive until the vCPU has ended or this is closed. Every method may be
 * called from within an access of the guest.
 */
export class VcpuThread extends Handle<NativeVcpuThread> {
  readonly #counted = new Float64Array(VCPU_COUNTERS.length)

  /** @internal {@link KvmVcpu.start} makes them. */
  constructor(
    vcpu: NativeFd,
    { id, label, runSize, bus }: { id: number; label: string; runSize: number; bus: GuestBus },
    ended: (end: VcpuEnd) => void,
  ) {
    const subject = label
    const ask = (window: number, offset: number, width: number, write: boolean, value: number): number => {
      try {
        return bus.access(window, offset, width, write, value)
      } catch (error) {
        this.pause()
        ended({ why: 'registers', error })
        return 0xffff_ffff
      }
    }
    const onEnd = (exitReason: number, detail: number, errno: number): void => {
      ended(
        errno === 0
          ? { why: 'exit', exit: exitNames.get(exitReason) ?? exitReason, detail }
          : { why: 'error', error: runError(errno, subject) },
      )
    }
    super(
      systemCall(() => binding().vcpuStart(vcpu, runSize, id, bus.native, ask, onEnd), { subject, hints }),
      `the thread of ${label}`,
      (thread) => binding().closeVcpuThread(thread),
    )
  }

  /** Returns once no instruction of the guest runs; within an access, the instruction that made it is half done. */
  pause(): void {
    if (!this.closed) binding().vcpuPause(this.native)
  }

  resume(): void {
    binding().vcpuResume(this.native)
  }

  /** Once it is closed, what they were in the end. */
  counters(): VcpuCounters {
    if (!this.closed) binding().vcpuCounters(this.native, this.#counted)
    return Object.fromEntries(VCPU_COUNTERS.map((name, i) => [name, this.#counted[i]])) as unknown as VcpuCounters
  }

  override close(): void {
    if (this.closed) return
    this.pause()
    this.counters()
    super.close()
  }
}

function runError(errno: number, subject: string): SystemCallError {
  const code = errnoName(errno)
  const hint = 'The host could not go on with the guest: its log (dmesg) may say more.'
  return new SystemCallError(code, -errno, 'KVM_RUN', `KVM_RUN on ${subject}: ${code}`, { hint })
}
