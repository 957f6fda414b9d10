// Where the queues of a backend's tap come from: a tap of that name, ours or not, a macvtap, or fds handed over.

import { IFF } from '../../abi/tun.ts'
import { InvalidOptionError } from '../../errors.ts'
import { ethtoolFeatures } from '../../host/ethtool.ts'
import { openMacvtap } from '../../host/macvtap.ts'
import { RtNetlink } from '../../host/rtnetlink.ts'
import { Tap } from '../../host/tap.ts'
import type { Teardown } from '../../teardown.ts'
import { ExistingTap } from './existing-tap.ts'
import { probeOffloads } from './features.ts'
import { type Lease, linkOf, tapOfFd } from './handed-fds.ts'
import { nameOf } from './tap-queue.ts'
import { TapSettings } from './tap-settings.ts'

/** The queues of one tap, opened one after another; closing, and putting back what is changed, goes to `opened`. */
export interface TapQueues {
  /** The next queue, its index being the pair's. */
  open(): Tap
  /** TUN_F_* that the tap knows; once the first queue is open. */
  offloads(): number
}

export interface NamedTap {
  ifname: string
  path: string
  queuePairs: number
  mtu: number | undefined
  /** Undefined for none, or what a tap that exists has. */
  backpressure: boolean | undefined
}

export interface NamedMacvtap {
  ifname: string
  /** Undefined for `/dev/tapN`. */
  path: string | undefined
}

/**
 * Queues of the tap of this name, which is created where there is none.
 * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT` where there is one that does not serve
 */
export function queuesByName(
  { ifname, path, queuePairs, mtu, backpressure: wanted }: NamedTap,
  opened: Teardown,
): TapQueues {
  if (wanted === true) assertKnowsBackpressure(path)
  const existing = ifname.includes('%d') ? undefined : ExistingTap.find(ifname, queuePairs)
  if (existing !== undefined) opened.add(() => existing.restore())
  const multiQueue = existing?.multiQueue ?? queuePairs > 1
  const backpressure = wanted ?? existing?.backpressure ?? false
  let first: Tap | undefined
  let before = 0
  return {
    open: () => {
      // The first queue creates the device or finds it as it was found above: one that appeared since is not ours.
      const exclusive = existing === undefined && first === undefined
      const tap = opened.own(Tap.open({ ifname: first?.ifname ?? ifname, multiQueue, backpressure, exclusive, path }))
      if (first === undefined) before = existing?.remember(tap).offload ?? 0
      if (first === undefined && wanted !== undefined) assertBackpressure(tap, wanted)
      if (exclusive && mtu !== undefined) setMtu(tap, mtu)
      first ??= tap
      return tap
    },
    offloads: () => probeOffloads(first as Tap, before),
  }
}

// A kernel that does not know the flag ignores it.
function assertKnowsBackpressure(path: string): void {
  if ((Tap.knownFlags(path) & IFF.IFF_BACKPRESSURE) !== 0) return
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'tap.backpressure', "this kernel's tun has no IFF_BACKPRESSURE", {
    hint: 'Leave the option out, or use a newer kernel than 6.12.',
  })
}

// The flags of a tap are those of whoever attached first (tun_set_iff in drivers/net/tun.c).
function assertBackpressure(tap: Tap, wanted: boolean): void {
  const found = (tap.getIff().flags & IFF.IFF_BACKPRESSURE) !== 0
  if (found === wanted) return
  const problem = `'${tap.ifname}' is in use ${found ? 'with' : 'without'} it`
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'tap.backpressure', problem, {
    hint: 'Stop what is attached to it: the flags of a tap change only while nothing is.',
    context: { ifname: tap.ifname },
  })
}

/** Of a tap that is ours, in this process's network namespace; it goes with the tap. @throws {SystemCallError} */
function setMtu({ ifname }: Tap, mtu: number): void {
  const netlink = RtNetlink.open()
  try {
    const link = netlink.getLink({ ifname })
    if (link !== undefined) netlink.setLink(link.index, { mtu })
  } finally {
    netlink.close()
  }
}

/** Puts back what a tap is set to, once that is undone, if it is still there. Offloads are known where it is in this network namespace. */
function noteSettings(tap: Tap, opened: Teardown): TapSettings {
  const link = linkOf(tap)
  const isIt = link?.kind === (tap.macvtap ? 'macvtap' : 'tun')
  const settings = TapSettings.of(tap, isIt ? ethtoolFeatures(link.ifname) : {})
  opened.add(() => {
    if (nameOf(tap) !== undefined) settings.putBack(tap)
  })
  return settings
}

/** Queues of a macvtap that exists; it stays. @throws {LinkError} `ERR_LINK_*`. @throws {SystemCallError} */
export function queuesOfMacvtap(
  { ifname, path, queuePairs }: NamedMacvtap & { queuePairs: number },
  opened: Teardown,
): TapQueues {
  let first: Tap | undefined
  let before: TapSettings | undefined
  return {
    open: () => {
      const multiQueue = queuePairs > 1
      const tap = opened.own(openMacvtap({ ifname, multiQueue, ...(path === undefined ? {} : { path }) }))
      before ??= noteSettings(tap, opened)
      first ??= tap
      return tap
    },
    offloads: () => probeOffloads(first as Tap, before?.offload ?? 0),
  }
}

/**
 * Queues handed over. Since nobody else may hold one, what is changed is put back while the first one is still open; its
 * offloads only where the tap is in this process's network namespace, elsewhere there are none afterwards.
 */
export function queuesByFd(fds: readonly number[], lease: Lease, opened: Teardown): TapQueues {
  let first: Tap | undefined
  let before: TapSettings | undefined
  let index = 0
  return {
    open: () => {
      const tap = lease.own(tapOfFd(fds, index++, first))
      if (first !== undefined) return tap
      before = noteSettings(tap, opened)
      first = tap
      return tap
    },
    offloads: () => probeOffloads(first as Tap, before?.offload ?? 0),
  }
}
