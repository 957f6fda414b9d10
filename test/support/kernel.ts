// The kernel under test, for expectations that differ between kernels.

import { release } from 'node:os'

const [major, minor] = release().split('.').map(Number) as [number, number]

/** Whether this kernel is at least that one: `since(6, 12)`. */
export function since(wantedMajor: number, wantedMinor: number): boolean {
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)
}
