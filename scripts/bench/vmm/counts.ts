// What a packet costs in notifications and exits: counted by the host's kernel, apart from the rates, which that slows.

import { readdirSync, readFileSync } from 'node:fs'
import { type Counted, difference, Histogram } from './tracefs.ts'

/** Over one stretch of traffic. */
export interface Counts {
  milliseconds: number
  /** In both directions, as the tap has them: with TSO one is up to 64 KiB. */
  packets: number
  /** Writes of the guest to a doorbell. */
  kicks: number
  /** Messages to the guest's interrupt controller. */
  calls: number
  /** Of the guest to the host's kernel, and of these to user space. */
  exits: number
  userExits: number
  /** Of the VMM's main thread: where it runs its event loop. */
  wakeUps: number
  /** Exits by their reasons, as KVM numbers them. */
  exitReasons: Record<string, number>
  userExitReasons: Record<string, number>
}

export const COUNTED = ['kicks', 'calls', 'exits', 'userExits', 'wakeUps'] as const

/** Local APICs and I/O APIC: 0xfec00000 and 0xfee00000. Doorbells are all else that a guest with traffic writes to. */
const isApic = (address: number): boolean => address >= 0xfec0_0000 && address < 0xff00_0000
/** KVM_TRACE_MMIO_WRITE, arch/x86/kvm/trace.h. */
const WRITE = 2

interface Reading {
  at: number
  packets: number
  wakeUps: number
  mmio: Counted
  messages: Counted
  exits: Counted
  userExits: Counted
}

const sum = (counted: Counted): number => [...counted.values()].reduce((all, hits) => all + hits, 0)

/** @param mmio by thread, type and address */
export function doorbells(mmio: Counted, threads: ReadonlySet<number>): number {
  return sum(
    new Map(
      [...mmio].filter(([key]) => {
        const [thread, type, address] = key.split(',').map(Number) as [number, number, number]
        return threads.has(thread) && type === WRITE && !isApic(address)
      }),
    ),
  )
}

/** Of these threads alone, without saying of which. */
export function ofThreads(counted: Counted, threads: ReadonlySet<number>): Map<string, number> {
  const found = new Map<string, number>()
  for (const [key, hits] of counted) {
    const [thread, what] = key.split(',') as [string, string]
    if (threads.has(Number(thread))) found.set(what, (found.get(what) ?? 0) + hits)
  }
  return found
}

/** How often a thread has gone to sleep, and so has been woken. @param status of its /proc/PID/status */
export function sleepsOf(status: string): number {
  const [, count] = /^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status) ?? []
  if (count === undefined) throw new Error(`no voluntary_ctxt_switches in:\n${status}`)
  return Number(count)
}

/** It counts from its construction on, what all guests do. */
export class Counters {
  readonly #mmio = new Histogram('kvm/kvm_mmio', 'common_pid,type,gpa')
  /** Not by threads: the kernel may put one off to a thread of its own. Guests without traffic get none. */
  readonly #messages = new Histogram('kvm/kvm_msi_set_irq', 'data')
  readonly #exits = new Histogram('kvm/kvm_exit', 'common_pid,exit_reason')
  readonly #userExits = new Histogram('kvm/kvm_userspace_exit', 'common_pid,reason')

  /** @param pid of the VMM that has the traffic @param ifname of its tap */
  async during(pid: number, ifname: string, body: () => Promise<void>): Promise<Counts> {
    const threads = new Set(readdirSync(`/proc/${pid}/task`).map(Number))
    const before = this.#read(pid, ifname)
    await body()
    const after = this.#read(pid, ifname)
    const exits = ofThreads(difference(before.exits, after.exits), threads)
    const userExits = ofThreads(difference(before.userExits, after.userExits), threads)
    return {
      milliseconds: after.at - before.at,
      packets: after.packets - before.packets,
      kicks: doorbells(difference(before.mmio, after.mmio), threads),
      calls: sum(difference(before.messages, after.messages)),
      exits: sum(exits),
      userExits: sum(userExits),
      wakeUps: after.wakeUps - before.wakeUps,
      exitReasons: Object.fromEntries(exits),
      userExitReasons: Object.fromEntries(userExits),
    }
  }

  #read(pid: number, ifname: string): Reading {
    const packets = ['rx', 'tx'].map((way) =>
      Number(readFileSync(`/sys/class/net/${ifname}/statistics/${way}_packets`, 'utf8')),
    )
    return {
      at: performance.now(),
      packets: packets.reduce((all, count) => all + count),
      wakeUps: sleepsOf(readFileSync(`/proc/${pid}/task/${pid}/status`, 'utf8')),
      mmio: this.#mmio.read(),
      messages: this.#messages.read(),
      exits: this.#exits.read(),
      userExits: this.#userExits.read(),
    }
  }

  [Symbol.dispose](): void {
    for (const each of [this.#mmio, this.#messages, this.#exits, this.#userExits]) each[Symbol.dispose]()
  }
}
