// How `vhost-net run` ends, as a number.

import { SystemCallError } from '../../errors.ts'
import type { VmEnd } from '../../vmm/index.ts'

/** The machine's own end, or that its user left it. */
export type RunEnd = VmEnd | { readonly why: 'left' }

export const EXIT_CODES = { poweroff: 0, reset: 3, panic: 4, failed: 5, host: 6, left: 7 } as const

const LACKING = ['ENOENT', 'ENODEV', 'ENXIO', 'EACCES', 'EPERM']

/** Whether this host has no such device, or not for this user. */
export function lacksDevice(error: unknown): boolean {
  // Devices are opened by the addon; files by Node.js, whose errors are others.
  return error instanceof SystemCallError && error.syscall === 'open' && LACKING.includes(error.code)
}
