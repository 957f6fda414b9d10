// Counts instructions: under QEMU's -icount every instruction takes the same time, so time is a count of them.

import { readFileSync } from 'node:fs'

/** Nanoseconds of an instruction with `-icount shift=3`. */
const NS_PER_INSTRUCTION = 8

export const INSTRUCTIONS_PER_MILLISECOND = 1e6 / NS_PER_INSTRUCTION

/** Of USER_HZ, the unit of /proc/stat. */
const NS_PER_TICK = 1e7

/** What one run of one path came to. */
export interface Sample {
  packets: number
  /** Of the whole machine, for each packet: this process, the kernel, and what feeds it. */
  instructionsPerPacket: number
  /** Part of the time in which the processor slept; those instructions are not counted. */
  idle: number
  /** Instructions for each packet of this thread, and of the process that feeds it, where one does. */
  thread?: number
  source?: number
  /** For 1000 packets, where a ring is measured: kicks of the device, and how often who drives the ring slept. */
  kicks?: number
  sleeps?: number
}

// The fourth of `cpu user nice system idle`.
function idleNs(): number {
  const cpu = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] as string
  return Number(cpu.split(/\s+/)[4]) * NS_PER_TICK
}

// The first field: how long it has run (Documentation/scheduler/sched-stats.rst).
function ranNs(pid: number): number {
  return Number((readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ') as [string])[0])
}

/** Counts how many instructions a process with one thread, or the first thread of one, takes for a packet of `sample`. */
export function countProcess(pid: number): (sample: { packets: number }) => number {
  const before = ranNs(pid)
  return ({ packets }) => (ranNs(pid) - before) / NS_PER_INSTRUCTION / packets
}

/** Runs `body`, which returns how many packets it moved. */
export async function measure(body: () => Promise<number>): Promise<Sample> {
  const thread = countProcess(process.pid)
  const idle = idleNs()
  const start = process.hrtime.bigint()
  const packets = await body()
  const elapsed = Number(process.hrtime.bigint() - start)
  const slept = idleNs() - idle
  return {
    packets,
    instructionsPerPacket: (elapsed - slept) / NS_PER_INSTRUCTION / packets,
    idle: slept / elapsed,
    thread: thread({ packets }),
  }
}

/** Whether `milliseconds` have gone by since it was made. */
export function deadline(milliseconds: number): () => boolean {
  const end = process.hrtime.bigint() + BigInt(milliseconds) * 1_000_000n
  return () => process.hrtime.bigint() >= end
}
