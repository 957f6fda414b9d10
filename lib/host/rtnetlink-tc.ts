// Requests of traffic control: queueing disciplines, HTB's classes, and a filter that polices; and those as the kernel
// describes them. Pure; the socket is in rtnetlink.ts.
//
// include/uapi/linux/pkt_sched.h, pkt_cls.h; what the kernel does: net/sched/sch_api.c, cls_api.c, sch_htb.c, act_police.c.

import {
  ETH_P_ALL,
  HTB_VERSION,
  PSCHED_TICK_NS,
  TC_ACT_SHOT,
  TC_LINKLAYER_ETHERNET,
  TC_U32_TERMINAL,
  TCA,
  TCA_ACT,
  TCA_HTB,
  TCA_POLICE,
  TCA_U32,
} from '../abi/pkt-sched.ts'
import { NLM_F } from '../abi/rtnetlink.ts'
import { checkInteger } from '../options.ts'
import {
  malformed,
  type NetlinkAttributes,
  type NetlinkMessage,
  NetlinkWriter,
  parsePayload,
} from './netlink-message.ts'
import { ACK, CREATE, checkIndex, linkSubject, present, type RtnetlinkRequest } from './rtnetlink-request.ts'

/** A queueing discipline of a link. Handles are numbers of 32 bits: `MAJOR:MINOR` of tc, 16 bits each. */
export interface Qdisc {
  index: number
  /** `'htb'`, `'mq'`, … */
  kind: string
  /** 0 of one that the kernel made by itself. */
  handle: number
  /** TC_H_ROOT, TC_H_INGRESS, or the class that it is in. */
  parent: number
}

/** A queueing discipline to be made. */
export type NewQdisc = Pick<Qdisc, 'handle' | 'parent'> &
  (
    | {
        kind: 'htb'
        /** Minor number of the class for what no filter sorts. */
        default: number
      }
    | {
        kind: 'sfq'
        /** Seconds after which flows are told apart anew. */
        perturb: number
      }
    | { kind: 'ingress' }
  )

/** A class of HTB. Rates are bytes a second, below 2⁵³; bursts are bytes that may go at once. */
export interface HtbClass {
  handle: number
  parent: number
  rate: number
  /** What it may borrow up to. */
  ceil: number
  /** At the speed of what is below, before `rate` counts. */
  burst: number
  /** The same, before `ceil` counts. */
  cburst: number
  /** Bytes at a time, where several share. */
  quantum: number
}

/** A filter that drops what is too much of everything that comes to a queueing discipline. */
export interface PoliceFilter {
  /** The queueing discipline. */
  parent: number
  /** 1..65535; the lowest is asked first. */
  priority: number
  /** Bytes a second, below 2⁵³. */
  rate: number
  /** Bytes that may come at once. */
  burst: number
  /** Bytes of the largest frame that passes; of a large one that is still to be cut, those of its pieces. */
  mtu: number
}

/** What the kernel tells of a class: burst in ticks, since what it was in bytes depends on rounding. */
export interface FoundClass {
  kind: string
  handle: number
  parent: number
  rate: number
  ceil: number
  bufferTicks: number
  cbufferTicks: number
  quantum: number
}

/** What the kernel tells of a filter that polices; `rate` undefined of any other filter. */
export interface FoundFilter {
  kind: string
  priority: number
  rate?: number
  burstTicks?: number
  mtu?: number
}

const maxU32 = 2 ** 32 - 1

/** How long that many bytes take at a rate, in the kernel's ticks; at most 274 seconds of them. */
export const ticksOf = (bytes: number, rate: number): number =>
  Math.max(1, Math.min(maxU32, Math.round((bytes * 1e9) / rate / PSCHED_TICK_NS)))

const checkRate = (value: unknown, option: string): number => checkInteger(value, option, 1, Number.MAX_SAFE_INTEGER)
const checkBytes = (value: unknown, option: string): number => checkInteger(value, option, 1, maxU32)

function structOf(size: number, write: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(size)
  write(new DataView(bytes.buffer))
  return bytes
}

function tcmsg({ index = 0, handle = 0, parent = 0, info = 0 }): Uint8Array {
  return structOf(20, (view) => {
    view.setInt32(4, index, true)
    view.setUint32(8, handle, true)
    view.setUint32(12, parent, true)
    view.setUint32(16, info, true)
  })
}

/** `struct tc_ratespec`; a rate that does not fit is in an attribute of its own, too. */
function writeRate(view: DataView, at: number, rate: number, cellLog = 0): void {
  view.setUint8(at, cellLog)
  view.setUint8(at + 1, TC_LINKLAYER_ETHERNET)
  if (cellLog !== 0) view.setInt16(at + 4, -1, true)
  view.setUint32(at + 8, Math.min(rate, maxU32), true)
}

function u64(value: number): Uint8Array {
  return structOf(8, (view) => view.setBigUint64(0, BigInt(value), true))
}

/** `'1:2'` */
export const describeHandle = (handle: number): string =>
  `${(handle >>> 16).toString(16)}:${(handle & 0xffff).toString(16)}`

/** RTM_NEWQDISC, where none is but the kernel's own. */
export function addQdiscRequest(index: number, qdisc: NewQdisc): RtnetlinkRequest {
  const { handle, parent, kind } = qdisc
  const body = new NetlinkWriter()
    .struct(tcmsg({ index: checkIndex(index), handle, parent }))
    .string(TCA.TCA_KIND, kind)
  if (qdisc.kind === 'htb') {
    const glob = structOf(20, (view) => {
      view.setUint32(0, HTB_VERSION, true)
      // rate2quantum: of classes that do not say their quantum.
      view.setUint32(4, 10, true)
      view.setUint32(8, qdisc.default, true)
    })
    body.nest(TCA.TCA_OPTIONS, (options) => options.attribute(TCA_HTB.TCA_HTB_INIT, glob))
  }
  if (qdisc.kind === 'sfq') {
    // struct tc_sfq_qopt; 0 keeps the kernel's own of everything else.
    body.attribute(
      TCA.TCA_OPTIONS,
      structOf(20, (view) => view.setInt32(4, qdisc.perturb, true)),
    )
  }
  return { name: 'RTM_NEWQDISC', flags: CREATE, body, ...linkSubject(index, `${kind} ${describeHandle(handle)} of `) }
}

/** RTM_DELQDISC. */
export function deleteQdiscRequest(
  index: number,
  { handle, parent }: Pick<Qdisc, 'handle' | 'parent'>,
): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(tcmsg({ index: checkIndex(index), handle, parent }))
  return { name: 'RTM_DELQDISC', flags: ACK, body, ...linkSubject(index, `qdisc ${describeHandle(handle)} of `) }
}

/** RTM_GETQDISC of all links: the kernel picks none out. */
export function listQdiscsRequest(): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(tcmsg({}))
  return { name: 'RTM_GETQDISC', flags: NLM_F.NLM_F_DUMP, body, subject: 'all queueing disciplines', context: {} }
}

/** @throws {SystemCallError} `EBADMSG` */
export function decodeQdisc({ payload }: NetlinkMessage): Qdisc {
  const { view, attributes } = parsePayload(payload, 20)
  return {
    index: view.getInt32(4, true),
    kind: kindOf(attributes),
    handle: view.getUint32(8, true),
    parent: view.getUint32(12, true),
  }
}

const kindOf = (attributes: NetlinkAttributes): string => present(attributes.string(TCA.TCA_KIND), 'TCA_KIND')

/** RTM_NEWTCLASS of HTB, which is not there yet. */
export function addHtbClassRequest(index: number, htb: HtbClass): RtnetlinkRequest {
  const { handle, parent } = htb
  const [rate, ceil] = [checkRate(htb.rate, 'rate'), checkRate(htb.ceil, 'ceil')]
  const [burst, cburst] = [checkBytes(htb.burst, 'burst'), checkBytes(htb.cburst, 'cburst')]
  const quantum = checkBytes(htb.quantum, 'quantum')
  // struct tc_htb_opt
  const opt = structOf(44, (view) => {
    writeRate(view, 0, rate)
    writeRate(view, 12, ceil)
    view.setUint32(24, ticksOf(burst, rate), true)
    view.setUint32(28, ticksOf(cburst, ceil), true)
    view.setUint32(32, quantum, true)
  })
  const body = new NetlinkWriter()
    .struct(tcmsg({ index: checkIndex(index), handle, parent }))
    .string(TCA.TCA_KIND, 'htb')
    .nest(TCA.TCA_OPTIONS, (options) => {
      options.attribute(TCA_HTB.TCA_HTB_PARMS, opt)
      if (rate > maxU32) options.attribute(TCA_HTB.TCA_HTB_RATE64, u64(rate))
      if (ceil > maxU32) options.attribute(TCA_HTB.TCA_HTB_CEIL64, u64(ceil))
    })
  return { name: 'RTM_NEWTCLASS', flags: CREATE, body, ...linkSubject(index, `class ${describeHandle(handle)} of `) }
}

/** RTM_GETTCLASS of a link. */
export function listClassesRequest(index: number): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(tcmsg({ index: checkIndex(index) }))
  return { name: 'RTM_GETTCLASS', flags: NLM_F.NLM_F_DUMP, body, ...linkSubject(index, 'classes of ') }
}

/** Undefined of another kind than HTB. @throws {SystemCallError} `EBADMSG` */
export function decodeHtbClass({ payload }: NetlinkMessage): FoundClass | undefined {
  const { view, attributes } = parsePayload(payload, 20)
  if (kindOf(attributes) !== 'htb') return undefined
  const options = attributes.nested(TCA.TCA_OPTIONS)
  const opt = structIn(options, TCA_HTB.TCA_HTB_PARMS, 44)
  if (options === undefined || opt === undefined) return undefined
  return {
    kind: 'htb',
    handle: view.getUint32(8, true),
    parent: view.getUint32(12, true),
    rate: options.u64s(TCA_HTB.TCA_HTB_RATE64, 1)?.[0] ?? opt.getUint32(8, true),
    ceil: options.u64s(TCA_HTB.TCA_HTB_CEIL64, 1)?.[0] ?? opt.getUint32(20, true),
    bufferTicks: opt.getUint32(24, true),
    cbufferTicks: opt.getUint32(28, true),
    quantum: opt.getUint32(32, true),
  }
}

function structIn(attributes: NetlinkAttributes | undefined, type: number, size: number): DataView | undefined {
  const bytes = attributes?.bytes(type)
  if (bytes === undefined) return undefined
  if (bytes.length < size) throw malformed(`attribute ${type} of ${bytes.length} bytes, not ${size}`)
  return new DataView(bytes.buffer, bytes.byteOffset, size)
}

/** RTM_NEWTFILTER of kind u32 that matches everything, as `tc filter add … u32 match u32 0 0 police … drop flowid :1`. */
export function addPoliceRequest(index: number, police: PoliceFilter): RtnetlinkRequest {
  const { parent } = police
  const rate = checkRate(police.rate, 'rate')
  const [burst, mtu] = [checkBytes(police.burst, 'burst'), checkBytes(police.mtu, 'mtu')]
  const priority = checkInteger(police.priority, 'priority', 1, 0xffff)
  // struct tc_u32_sel with one struct tc_u32_key of zeros
  const sel = structOf(32, (view) => {
    view.setUint8(0, TC_U32_TERMINAL)
    view.setUint8(2, 1)
  })
  let cellLog = 1
  while (mtu >> cellLog > 0xff) cellLog++
  // struct tc_police
  const parms = structOf(56, (view) => {
    view.setInt32(4, TC_ACT_SHOT, true)
    view.setUint32(12, ticksOf(burst, rate), true)
    view.setUint32(16, mtu, true)
    writeRate(view, 20, rate, cellLog)
  })
  // A table that the kernel has not looked into since 3.8, but does not go without (qdisc_get_rtab).
  const table = structOf(1024, (view) => {
    for (let cell = 0; cell < 256; cell++) view.setUint32(4 * cell, ticksOf((cell + 1) << cellLog, rate), true)
  })
  const body = new NetlinkWriter()
    .struct(tcmsg({ index: checkIndex(index), parent, info: filterInfo(priority) }))
    .string(TCA.TCA_KIND, 'u32')
    .nest(TCA.TCA_OPTIONS, (options) => {
      // flowid :1, without which a filter matches and does nothing.
      options.u32(TCA_U32.TCA_U32_CLASSID, 1)
      options.attribute(TCA_U32.TCA_U32_SEL, sel)
      options.nest(TCA_U32.TCA_U32_POLICE, (action) => {
        action.attribute(TCA_POLICE.TCA_POLICE_TBF, parms).attribute(TCA_POLICE.TCA_POLICE_RATE, table)
        if (rate > maxU32) action.attribute(TCA_POLICE.TCA_POLICE_RATE64, u64(rate))
      })
    })
  return {
    name: 'RTM_NEWTFILTER',
    flags: CREATE,
    body,
    ...linkSubject(index, `filter of ${describeHandle(parent)} of `),
  }
}

/** Priority, and ETH_P_ALL in network order. */
const filterInfo = (priority: number): number => ((priority << 16) | (ETH_P_ALL << 8)) >>> 0

/** RTM_GETTFILTER of a queueing discipline. */
export function listFiltersRequest(index: number, parent: number): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(tcmsg({ index: checkIndex(index), parent }))
  return {
    name: 'RTM_GETTFILTER',
    flags: NLM_F.NLM_F_DUMP,
    body,
    ...linkSubject(index, `filters of ${describeHandle(parent)} of `),
  }
}

/** Undefined of the hash tables that u32 lists besides, and of what has no options. @throws {SystemCallError} `EBADMSG` */
export function decodeFilter({ payload }: NetlinkMessage): FoundFilter | undefined {
  const { view, attributes } = parsePayload(payload, 20)
  const options = attributes.nested(TCA.TCA_OPTIONS)
  if (options === undefined) return undefined
  const found = { kind: kindOf(attributes), priority: view.getUint32(16, true) >>> 16 }
  if (found.kind !== 'u32') return found
  if (!options.has(TCA_U32.TCA_U32_SEL)) return undefined
  // What was made as TCA_U32_POLICE is told so, and not as an action (tcf_exts_dump).
  const police =
    options.nested(TCA_U32.TCA_U32_POLICE) ??
    options.nested(TCA_U32.TCA_U32_ACT)?.nested(1)?.nested(TCA_ACT.TCA_ACT_OPTIONS)
  const parms = structIn(police, TCA_POLICE.TCA_POLICE_TBF, 56)
  if (police === undefined || parms === undefined) return found
  return {
    ...found,
    rate: police.u64s(TCA_POLICE.TCA_POLICE_RATE64, 1)?.[0] ?? parms.getUint32(28, true),
    burstTicks: parms.getUint32(12, true),
    mtu: parms.getUint32(16, true),
  }
}
