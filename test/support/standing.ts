// What stands while none of a machine's processors runs. Interrupts may come all the same, and wait.

import { readdirSync, readFileSync } from 'node:fs'
import type { Vm } from '../../lib/vmm/index.ts'

/** All that would be another if one of its processors had run. */
export function standing(vm: Vm) {
  const { state, vcpus } = vm.inspect()
  return {
    state,
    vcpus: vcpus.map(({ counters, stands }) => ({ counters, rip: stands?.rip, rflags: stands?.rflags })),
  }
}

/** Scheduler ticks that all threads of vCPUs of this process ran for, in guests and outside of them. */
export function vcpuTicks(): number {
  const stats = readdirSync('/proc/self/task').map((tid) => readFileSync(`/proc/self/task/${tid}/stat`, 'utf8'))
  // utime and stime are the 12th and 13th behind the name (man 5 proc).
  const times = stats.filter((stat) => stat.includes('(vcpu ')).map((stat) => stat.replace(/^.*\) /, '').split(' '))
  return times.reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0)
}
