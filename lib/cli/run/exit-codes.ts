// How `vhost-net run` ends, as a number.

import { SystemCallError } from '../../errors.ts'
import type { VmEnd } from '../../vmm/index.ts'

/** By how the machine ended; `stopped` is by its user, who left it. */
export const EXIT_CODES = { poweroff: 0, reset: 3, panic: 4, failed: 5, host: 6, stopped: 7 } as const satisfies Record<
  VmEnd['why'] | 'host',
  number
>

const LACKING = ['ENOENT', 'ENODEV', 'ENXIO', 'EACCES', 'EPERM']

/** Whether this host has no such device, or not for this user. */
export function lacksDevice(error: unknown): boolean {
  // Devices are opened by the addon; files by Node.js, whose errors are others.
  return error instanceof SystemCallError && error.syscall === 'open' && LACKING.includes(error.code)
}
