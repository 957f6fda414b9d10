// eventfd(2): a 64-bit counter that one side adds to and the other takes.

import { adoptFd, binding, FdHandle, systemCall } from '../binding/index.ts'

/** A kick, call or err of a virtqueue. */
export class EventFd extends FdHandle {
  /** A new, non-blocking, close-on-exec counter at 0. @throws {SystemCallError} `EMFILE`, `ENFILE`, `ENOMEM` */
  static create(label = 'eventfd'): EventFd {
    const native = systemCall(() => binding().eventfdCreate(), {
      subject: label,
      hints: { EMFILE: 'Raise the limit of open files (ulimit -n): a queue pair takes 8.' },
    })
    return new EventFd(native, label)
  }

  /** Takes over an eventfd that somebody else made. @throws {SystemCallError} `EBADF` */
  static fromFd(fd: number, label = `eventfd ${fd}`): EventFd {
    return new EventFd(adoptFd(fd, label), label)
  }

  /** Adds to the counter. @throws {SystemCallError} `EAGAIN` where it would pass 2⁶⁴ − 2 */
  signal(value = 1n): void {
    systemCall(() => binding().eventfdWrite(this.native, value), { subject: this.label })
  }

  /** Takes the counter and sets it to 0; `0n` where nothing was signalled. */
  read(): bigint {
    return systemCall(() => binding().eventfdRead(this.native), { subject: this.label })
  }
}
