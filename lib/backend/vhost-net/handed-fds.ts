// File descriptors that somebody else opened: which of them serve, and whose they are if opening fails.

import { fstatSync } from 'node:fs'
import { IFF } from '../../abi/tun.ts'
import { VHOST_NET_RDEV } from '../../abi/vhost.ts'
import { InvalidOptionError } from '../../errors.ts'
import type { Link } from '../../host/rtnetlink.ts'
import { Tap } from '../../host/tap.ts'
import { VhostNet } from '../../host/vhost-net.ts'
import { checkInteger } from '../../options.ts'
import type { Teardown } from '../../teardown.ts'
import { findLink } from './existing-tap.ts'

/**
 * Numbers of open files, each once.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT`
 */
export function checkFds(value: unknown, option: string): number[] | undefined {
  if (value === undefined) return undefined
  if (!Array.isArray(value)) throw new InvalidOptionError('ERR_OPTION_TYPE', option, 'must be an array of numbers')
  const fds = value.map((fd, i) => checkInteger(fd, `${option}[${i}]`, 0, 2 ** 31 - 1))
  for (const [i, fd] of fds.entries()) {
    if (fds.indexOf(fd) !== i)
      throw conflict(`${option}[${i}]`, `${fd} is there twice`, 'Every pair has fds of its own.')
  }
  return fds
}

function conflict(option: string, problem: string, hint: string): InvalidOptionError {
  return new InvalidOptionError('ERR_OPTION_CONFLICT', option, problem, { hint })
}

/** Handles on fds handed over: ours once all of opening has worked, their giver's until then. */
export class Lease {
  readonly #opened: Teardown
  #taken = false

  constructor(opened: Teardown) {
    this.#opened = opened
  }

  own<H extends { close(): void; detach(): number }>(handle: H): H {
    this.#opened.add(() => (this.#taken ? handle.close() : void handle.detach()))
    return handle
  }

  /** Registers what is to be done only where the fds go back. */
  addBeforeReturn(step: () => void): void {
    this.#opened.add(() => {
      if (!this.#taken) step()
    })
  }

  take(): void {
    this.#taken = true
  }
}

/**
 * The queue of a tap, or of a macvtap, behind an fd, left to its giver where it does not serve.
 * @param first the queue of the first fd; undefined where this is the first.
 * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT`
 * @throws {SystemCallError} `EBADF`; `EBADFD`, `ENOLINK`, `ENOTTY` of TUNGETIFF
 */
export function tapOfFd(fds: readonly number[], index: number, first: Tap | undefined): Tap {
  const tap = Tap.fromFd(fds[index] as number)
  try {
    checkTap(tap, `fds[${index}]`, fds.length, first)
    return tap
  } catch (error) {
    tap.detach()
    throw error
  }
}

function checkTap(tap: Tap, option: string, queues: number, first: Tap | undefined): void {
  const { name, flags } = tap.getIff()
  const refuse = (problem: string, hint: string) => {
    throw conflict(option, `'${name}' ${problem}`, hint)
  }
  if ((flags & IFF.IFF_TAP) === 0) refuse('is a tun device, not a tap', 'Open it with IFF_TAP.')
  if ((flags & IFF.IFF_VNET_HDR) === 0) refuse('has no virtio header', 'Open it with IFF_VNET_HDR.')
  if ((flags & IFF.IFF_DETACH_QUEUE) !== 0)
    refuse('has this queue detached', 'Attach it: TUNSETQUEUE, IFF_ATTACH_QUEUE.')
  if (queues > 1 && !tap.macvtap && (flags & IFF.IFF_MULTI_QUEUE) === 0) {
    refuse(`has a single queue, ${queues} fds were handed over`, 'Open it with IFF_MULTI_QUEUE.')
  }
  if (first !== undefined && first.getIff().name !== name) {
    refuse(`is another device than '${first.getIff().name}' of fds[0]`, 'All queues are of one tap.')
  }
  const tun = linkOf(tap)?.tun
  // TUNGETIFF does not tell: the number of IFF_NO_PI is IFF_NOFILTER's there (drivers/net/tun.c).
  if (tun?.pi) refuse('has packet information in front of frames', 'Open it with IFF_NO_PI.')
  if (tun?.multi_queue && (tun.numqueues ?? queues) < queues) {
    refuse(`has ${tun.numqueues} queues, ${queues} fds were handed over`, 'Every fd is of a queue of its own.')
  }
}

/** The device of a queue where it is in this process's network namespace, which it need not be. */
export const linkOf = (tap: Tap): Link | undefined => findLink({ ifname: tap.getIff().name })

/**
 * The vhost-net behind an fd, left to its giver where it is none.
 * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT`
 * @throws {SystemCallError} `EBADF`
 */
export function vhostOfFd(fd: number, option: string): VhostNet {
  const vhost = VhostNet.fromFd(fd)
  if (fstatSync(fd).rdev === VHOST_NET_RDEV) return vhost
  vhost.detach()
  throw conflict(option, `fd ${fd} is not of /dev/vhost-net`, 'Open /dev/vhost-net once for each queue pair.')
}
