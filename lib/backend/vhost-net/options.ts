// Options of a backend on vhost-net, and their checks.

import { TAP_MAX_MTU, TAP_MAX_QUEUES, TAP_MIN_MTU, TUN_DEVICE, TUN_SNDBUF_UNLIMITED } from '../../abi/tun.ts'
import { VHOST_NET_DEVICE } from '../../abi/vhost.ts'
import { InvalidOptionError } from '../../errors.ts'
import { checkIfname } from '../../host/ifname.ts'
import { NativeMemory } from '../../memory/index.ts'
import { checkBoolean, checkInteger, checkObject, checkString, type Unchecked } from '../../options.ts'
import { checkFds } from './handed-fds.ts'
import type { NamedMacvtap, NamedTap } from './tap-queues.ts'

/** A worker that polls holds its rings, and a pair that is stopped waits for it: 10 ms at most. */
const POLL_US_MAX = 10_000

export interface VhostNetBackendOptions {
  /** What the guest and the kernel's workers share. It must outlive the backend. */
  memory: NativeMemory
  /** 1..256. Each takes a vhost-net fd, a tap queue and a kernel worker. Default 1, or as many as there are fds. */
  queuePairs?: number
  /** The tap; or `macvtap`, or `fds`. */
  tap?: {
    /** The tap to create, or to attach to where it exists; 1..15 bytes, `%d` lets the kernel choose a number. */
    ifname: string
    /** Node of tun. Default `/dev/net/tun`. */
    path?: string
    /**
     * MTU of a tap that is created, 68..65521: largest packet without Ethernet header. Default the kernel's, 1500. A tap
     * that exists keeps its own.
     */
    mtu?: number
    /**
     * Frames for which a queue has no room wait in the tap's queueing discipline instead of being dropped: fewer are lost,
     * for delay, and throughput where several streams share a queue (IFF_BACKPRESSURE in drivers/net/tun.c, of kernels
     * after 6.12). Default false, and of a tap that exists what it was made with.
     */
    backpressure?: boolean
  }
  /**
   * Instead of `tap`: a macvtap, which exists and stays. Its guest gets what is sent to the macvtap's own address, whatever
   * its receive filter says: the macvtap has the guest's address, or none of its answers comes.
   */
  macvtap?: {
    /** 1..15 bytes; in this network namespace. */
    ifname: string
    /** Its node. Default `/dev/tapN`, N being its index. */
    path?: string
  }
  /**
   * Instead of `tap`: open queues of one tap, or one macvtap, one for each pair, with IFF_VNET_HDR and IFF_NO_PI (QEMU's `fds=`). They are
   * taken over where opening succeeds, and their giver's otherwise.
   */
  fds?: readonly number[]
  vhost?: {
    /** Node of vhost-net. Default `/dev/vhost-net`. */
    path?: string
  }
  /** Instead of `vhost`: open vhost-nets without an owner, one for each pair (QEMU's `vhostfds=`); taken over as `fds`. */
  vhostfds?: readonly number[]
  /**
   * Bytes in flight towards the tap, 1..2³¹−1. Anything below 2³¹−1, the default, turns the kernel's batching off: a small
   * frame costs more, and one with a bad header is dropped, instead of keeping the worker busy for ever. What is given
   * reaches every queue of the tap: who shares one loses what it had set, since the kernel shows that to none but the queue
   * itself (TUNSETSNDBUF in drivers/net/tun.c).
   */
  sndbuf?: number
  /**
   * Microseconds, 0..10000, for which a worker polls for more work before it sleeps (QEMU's `poll-us=`): less latency for
   * a busy CPU. Default 0.
   */
  poll_us?: number
}

/**
 * Another tap for a backend that runs: `tap`, `macvtap` or `fds`, one of them. Queues that are open already, as {@link Tap}s, are
 * handed over by their fds: `taps.map((tap) => tap.detach())`.
 */
export type SwapTapOptions = Pick<VhostNetBackendOptions, 'tap' | 'macvtap' | 'fds'>

/** A tap or a macvtap by name, or open queues of one. */
export type TapSource =
  | Pick<NamedTap, 'ifname' | 'path' | 'mtu' | 'backpressure'>
  | { macvtap: NamedMacvtap }
  | { fds: number[] }

export interface CheckedOptions {
  memory: NativeMemory
  queuePairs: number
  tap: TapSource
  vhost: { path: string } | { fds: number[] }
  sndbuf: number | undefined
  pollUs: number
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export const checkPollUs = (value: unknown): number => checkInteger(value, 'poll_us', 0, POLL_US_MAX, 0)

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkOptions(options: unknown): CheckedOptions {
  const known = ['memory', 'queuePairs', 'tap', 'macvtap', 'fds', 'vhost', 'vhostfds', 'sndbuf', 'poll_us']
  const given = checkObject(options, known)
  if (!(given.memory instanceof NativeMemory)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', 'memory', 'must be memory that the kernel can reach', {
      hint: 'Make it with GuestMemory.allocate().',
    })
  }
  const tap = checkTap(given)
  const vhost = checkVhost(given)
  const lists = Object.entries({ fds: 'fds' in tap ? tap.fds : [], vhostfds: 'fds' in vhost ? vhost.fds : [] })
  const count = lists.find(([, fds]) => fds.length > 0)?.[1].length ?? 1
  const queuePairs = checkInteger(given.queuePairs, 'queuePairs', 1, TAP_MAX_QUEUES, count)
  for (const [option, fds] of lists) if (given[option] !== undefined) checkCount(fds, option, queuePairs)
  return {
    memory: given.memory,
    queuePairs,
    tap,
    vhost,
    sndbuf: given.sndbuf === undefined ? undefined : checkInteger(given.sndbuf, 'sndbuf', 1, TUN_SNDBUF_UNLIMITED),
    pollUs: checkPollUs(given.poll_us),
  }
}

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkSwapOptions(options: unknown, queuePairs: number): TapSource {
  const source = checkTap(checkObject(options, ['tap', 'macvtap', 'fds']))
  if ('fds' in source) checkCount(source.fds, 'fds', queuePairs)
  return source
}

function checkCount(fds: readonly number[], option: string, queuePairs: number): void {
  if (fds.length === queuePairs) return
  const problem = `has ${fds.length} fds for ${queuePairs} queue pairs`
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', option, problem, { hint: 'Every pair takes one of each.' })
}

/** Its keys, not their values. @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_UNKNOWN` */
export function checkTapObject<T>(tap: T): T {
  checkObject(tap, ['ifname', 'path', 'mtu', 'backpressure'], 'tap')
  return tap
}

function checkTap(given: Unchecked): TapSource {
  const fds = checkFds(given.fds, 'fds')
  if (fds !== undefined) {
    assertAlone(given, 'fds', 'tap')
    assertAlone(given, 'fds', 'macvtap')
    return { fds }
  }
  if (given.macvtap !== undefined) {
    assertAlone(given, 'macvtap', 'tap')
    const { ifname, path } = checkObject(given.macvtap, ['ifname', 'path'], 'macvtap')
    return {
      macvtap: {
        ifname: checkIfname(ifname, 'macvtap.ifname'),
        path: path === undefined ? undefined : checkString(path, 'macvtap.path'),
      },
    }
  }
  const tap = checkTapObject(given.tap) as Unchecked
  return {
    ifname: checkIfname(tap.ifname, 'tap.ifname', { pattern: true }),
    path: checkString(tap.path, 'tap.path', TUN_DEVICE),
    mtu: tap.mtu === undefined ? undefined : checkInteger(tap.mtu, 'tap.mtu', TAP_MIN_MTU, TAP_MAX_MTU),
    backpressure: tap.backpressure === undefined ? undefined : checkBoolean(tap.backpressure, 'tap.backpressure'),
  }
}

function checkVhost(given: Unchecked): CheckedOptions['vhost'] {
  const fds = checkFds(given.vhostfds, 'vhostfds')
  if (fds !== undefined) {
    assertAlone(given, 'vhostfds', 'vhost')
    return { fds }
  }
  const vhost = checkObject(given.vhost ?? {}, ['path'], 'vhost')
  return { path: checkString(vhost.path, 'vhost.path', VHOST_NET_DEVICE) }
}

function assertAlone(given: Unchecked, option: string, other: string): void {
  if (given[other] === undefined) return
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', option, `and ${other} exclude each other`)
}
