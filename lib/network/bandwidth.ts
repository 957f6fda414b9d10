// What may go to a guest, and come from it, each second: libvirt's `<bandwidth>`, by traffic control on the tap.

import { TC_H } from '../abi/pkt-sched.ts'
import { InvalidOptionError, LinkError } from '../errors.ts'
import type { FoundClass, FoundFilter, HtbClass, PoliceFilter, Qdisc, RtNetlink } from '../host/rtnetlink.ts'
import { ticksOf } from '../host/rtnetlink-tc.ts'
import { checkInteger, checkObject } from '../options.ts'
import { Teardown } from '../teardown.ts'
import { findLink, type LinkUndo, netlinkStep, whileThere } from './link-steps.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import type { Step } from './step.ts'

export interface InboundLimit {
  /** Kilobytes (1000 bytes) a second, 1..2³²−1. */
  readonly average: number
  /** Kilobytes a second for what `burst` allows to go at once. Default and least `average`. */
  readonly peak?: number
  /** KiB that may go at `peak`, 1..4194303. Default a frame. */
  readonly burst?: number
}

export interface OutboundLimit {
  /** Kilobytes (1000 bytes) a second, 1..2³²−1. */
  readonly average: number
  /**
   * KiB that may come at once, 1..4194303. Default what comes in a second, and 128 at least: of a guest that sends large
   * frames to be cut later, as all do, none passes that has 64 KiB where less may come at once.
   */
  readonly burst?: number
}

export interface BandwidthOptions {
  /** Towards the guest: frames wait, fairly, in a queue of 127, and are dropped when that is full. */
  readonly inbound?: InboundLimit
  /**
   * From the guest: nothing waits; what is too much is dropped. It has no peak, since police has one rate. Frames count
   * without their Ethernet header here (sch_handle_ingress in net/core/dev.c).
   */
  readonly outbound?: OutboundLimit
}

/** `tc … handle 1: htb default 1`, its class 1:1, and in that `handle 2: sfq`, as libvirt names them. */
const HTB = { parent: TC_H.TC_H_ROOT, handle: 0x0001_0000 } as const
const HTB_CLASS = { parent: HTB.handle, handle: 0x0001_0001 } as const
const SFQ = { parent: HTB_CLASS.handle, handle: 0x0002_0000 } as const
const SFQ_PERTURB_S = 10
const INGRESS = { parent: TC_H.TC_H_INGRESS, handle: 0xffff_0000 } as const

const KIB = 1024
const KILOBYTE = 1000
/** Kernel's limits on a quantum (net/sched/sch_htb.c), and tc's own burst where none is given: a frame. */
const QUANTUM = { share: 10, least: 1600, most: 200_000 } as const
const FRAME = 1600
const LARGEST_FRAMES_KIB = 128
/** libvirt's `mtu 64kb`. */
const POLICE_MTU = 64 * KIB

/**
 * The steps that limit what goes through a link, a tap mostly; seen from the guest, as in a domain's `<interface>`. It limits
 * neither what Open vSwitch is to limit (its `ingressPolicingRate`), nor a macvtap, whose frames pass by no queueing
 * discipline of its own on their way to the guest. What goes out in large frames is counted by the bytes of these.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 */
export async function planBandwidth(link: PluggedLink, options: BandwidthOptions): Promise<Step[]> {
  const { ifname } = checkLink(link)
  const { inbound, outbound } = checkBandwidthOptions(options)
  return [
    ...(inbound === undefined ? [] : [inboundStep(ifname, inbound)]),
    ...(outbound === undefined ? [] : [outboundStep(ifname, outbound)]),
  ]
}

const MAX_KILOBYTES = 2 ** 32 - 1
/** Of bytes that fit into 32 bits. */
const MAX_KIB = 2 ** 22 - 1

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkBandwidthOptions(value: unknown): BandwidthOptions {
  const { inbound, outbound } = checkObject(value, ['inbound', 'outbound'])
  if (inbound === undefined && outbound === undefined) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'inbound', 'there is neither inbound nor outbound')
  }
  if (inbound !== undefined) {
    const { average, peak, burst } = checkObject(inbound, ['average', 'peak', 'burst'], 'inbound')
    const least = checkInteger(average, 'inbound.average', 1, MAX_KILOBYTES)
    if (peak !== undefined) checkInteger(peak, 'inbound.peak', least, MAX_KILOBYTES)
    if (burst !== undefined) checkInteger(burst, 'inbound.burst', 1, MAX_KIB)
  }
  if (outbound !== undefined) {
    const { average, burst } = checkObject(outbound, ['average', 'burst'], 'outbound')
    checkInteger(average, 'outbound.average', 1, MAX_KILOBYTES)
    if (burst !== undefined) checkInteger(burst, 'outbound.burst', 1, MAX_KIB)
  }
  return value as BandwidthOptions
}

function htbClass({ average, peak = average, burst }: InboundLimit): HtbClass {
  const rate = average * KILOBYTE
  const quantum = Math.min(QUANTUM.most, Math.max(QUANTUM.least, Math.round(rate / QUANTUM.share)))
  const bytes = burst === undefined ? FRAME : burst * KIB
  return { ...HTB_CLASS, rate, ceil: peak * KILOBYTE, burst: bytes, cburst: FRAME, quantum }
}

function policeFilter({ average, burst }: OutboundLimit): PoliceFilter {
  const kib = burst ?? Math.min(MAX_KIB, Math.max(average, LARGEST_FRAMES_KIB))
  return { parent: INGRESS.handle, priority: 1, rate: average * KILOBYTE, burst: kib * KIB, mtu: POLICE_MTU }
}

function inboundStep(ifname: string, limit: InboundLimit): Step {
  const wanted = htbClass(limit)
  const { average, peak } = limit
  const upTo = peak === undefined ? '' : `, ${peak} kB/s for ${wanted.burst} bytes`
  return netlinkStep(`limit what goes to '${ifname}' to ${average} kB/s${upTo}`, (netlink) => {
    const { index } = findLink(netlink, ifname)
    const root = netlink.listQdiscs(index).find(({ parent }) => parent === HTB.parent)
    if (root !== undefined && isShaped(netlink, root, wanted)) return undefined
    // One that the kernel made has no handle, and makes way.
    if (root !== undefined && root.handle !== 0) throw taken(ifname, root, 'root')
    return make(netlink, index, { kind: 'htb', ...HTB }, () => {
      netlink.addQdisc(index, { kind: 'htb', ...HTB, default: 1 })
      return () => {
        netlink.addHtbClass(index, wanted)
        netlink.addQdisc(index, { kind: 'sfq', ...SFQ, perturb: SFQ_PERTURB_S })
      }
    })
  })
}

function outboundStep(ifname: string, limit: OutboundLimit): Step {
  const wanted = policeFilter(limit)
  const text = `limit what comes from '${ifname}' to ${limit.average} kB/s, ${wanted.burst} bytes at once`
  return netlinkStep(text, (netlink) => {
    const { index } = findLink(netlink, ifname)
    const found = netlink.listQdiscs(index).find(({ parent }) => parent === INGRESS.parent)
    if (found !== undefined && isPoliced(netlink, found, wanted)) return undefined
    if (found !== undefined) throw taken(ifname, found, found.kind)
    return make(netlink, index, { kind: 'ingress', ...INGRESS }, () => {
      netlink.addQdisc(index, { kind: 'ingress', ...INGRESS })
      return () => netlink.addPolice(index, wanted)
    })
  })
}

/** A queueing discipline, and then what is in it: all of it or nothing. */
function make(netlink: RtNetlink, index: number, which: Omit<Qdisc, 'index'>, add: () => () => void): LinkUndo {
  const fill = add()
  const undo = new Teardown()
  undo.add(() => netlink.deleteQdisc(index, which))
  try {
    fill()
  } catch (error) {
    throw undo.unwind(error)
  }
  return whileThere(index, (again) => {
    const found = again.listQdiscs(index).find(({ parent }) => parent === which.parent)
    if (found?.kind === which.kind && found.handle === which.handle) again.deleteQdisc(index, which)
  })
}

function taken(ifname: string, { kind, handle }: Qdisc, place: string): LinkError {
  const text = `'${ifname}' has a queueing discipline already, ${kind} ${(handle >>> 16).toString(16)}:`
  return new LinkError('ERR_LINK_TAKEN', text, {
    hint: `Take it away first: tc qdisc delete dev ${ifname} ${place}`,
    context: { ifname, kind },
  })
}

function isShaped(netlink: RtNetlink, { kind, handle, index }: Qdisc, wanted: HtbClass): boolean {
  if (kind !== 'htb' || handle !== HTB.handle) return false
  const isIt = (each: FoundClass): boolean =>
    each.handle === wanted.handle &&
    each.rate === wanted.rate &&
    each.ceil === wanted.ceil &&
    each.bufferTicks === ticksOf(wanted.burst, wanted.rate)
  return netlink.listHtbClasses(index).some(isIt)
}

function isPoliced(netlink: RtNetlink, { kind, index }: Qdisc, wanted: PoliceFilter): boolean {
  if (kind !== 'ingress') return false
  const isIt = (each: FoundFilter): boolean =>
    each.rate === wanted.rate && each.burstTicks === ticksOf(wanted.burst, wanted.rate)
  return netlink.listFilters(index, wanted.parent).some(isIt)
}
