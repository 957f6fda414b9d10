// What every request to rtnetlink has, and what links, addresses and neighbours check and read alike. Pure.

import { AF, NLM_F, RTM } from '../abi/rtnetlink.ts'
import type { ErrorContext } from '../errors.ts'
import { checkInteger } from '../options.ts'
import { malformed, type NetlinkWriter } from './netlink-message.ts'

/** One request, not sent yet. */
export interface RtnetlinkRequest {
  name: keyof typeof RTM
  /** Besides NLM_F_REQUEST. */
  flags: number
  body: NetlinkWriter
  /** What it is about, for messages. */
  subject: string
  context: ErrorContext
}

/** The bytes to send. */
export function encodeRequest({ name, flags, body }: RtnetlinkRequest, sequence: number): Uint8Array {
  return body.finish({ type: RTM[name], flags: NLM_F.NLM_F_REQUEST | flags, sequence })
}

/** Flags of a request that changes something, and of one that makes what must not be there yet. */
export const ACK = NLM_F.NLM_F_ACK
export const CREATE = NLM_F.NLM_F_ACK | NLM_F.NLM_F_CREATE | NLM_F.NLM_F_EXCL

/** The kernel's indices are signed. */
export const MAX_INDEX = 2 ** 31 - 1

/** A link's index. @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export function checkIndex(value: unknown, option = 'index'): number {
  return checkInteger(value, option, 1, MAX_INDEX)
}

/** For messages: `{ subject: '192.0.2.1/24 on link 3', … }`. */
export function linkSubject(link: number | string, what = ''): { subject: string; context: ErrorContext } {
  return { subject: `${what}link ${link}`, context: typeof link === 'number' ? { index: link } : { ifname: link } }
}

/** AF_* of an address's bytes. */
export function familyOf(address: Uint8Array): number {
  return address.length === 4 ? AF.AF_INET : AF.AF_INET6
}

/** An attribute that the kernel always sends. @throws {SystemCallError} `EBADMSG` where it did not */
export function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw malformed(`no ${name}`)
  return value
}

/** `struct ifinfomsg`, with which every message about a link begins. */
export function ifinfomsg({ family = 0, index = 0, flags = 0, change = 0 } = {}): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, family)
  view.setInt32(4, index, true)
  view.setUint32(8, flags, true)
  view.setUint32(12, change, true)
  return bytes
}
