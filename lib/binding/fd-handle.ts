// The owner of one file descriptor.

import { Handle } from './handle.ts'
import { binding } from './load.ts'
import type { NativeFd } from './natives.ts'
import { systemCall } from './system-call.ts'

/** One open file descriptor, close-on-exec, closed by `close()`. */
export abstract class FdHandle extends Handle<NativeFd> {
  protected constructor(native: NativeFd, label: string) {
    super(native, label, (fd) => binding().closeFd(fd))
  }

  /** The descriptor's number. @throws {StateError} `ERR_CLOSED` */
  get fd(): number {
    return binding().fdNumber(this.native)
  }

  /** Gives the descriptor away: the caller closes the number from now on. @throws {StateError} `ERR_CLOSED` */
  detach(): number {
    const number = binding().detachFd(this.native)
    this.surrender()
    return number
  }
}

/** Takes over an fd that somebody else opened; sets close-on-exec. @throws {SystemCallError} `EBADF` */
export function adoptFd(fd: number, subject: string): NativeFd {
  return systemCall(() => binding().adoptFd(fd), { subject, hints: { EBADF: 'The fd is not open in this process.' } })
}
