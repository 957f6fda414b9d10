// Requests about routes to who is on a link, and a route as the kernel describes it. Pure; the socket is in rtnetlink.ts.
//
// include/uapi/linux/rtnetlink.h; what the kernel does: net/ipv4/fib_frontend.c, net/ipv6/route.c.

import { AF, NLM_F, RT_SCOPE, RT_TABLE_MAIN, RTA, RTN_UNICAST, RTPROT_BOOT } from '../abi/rtnetlink.ts'
import { formatIp, parseIp } from '../address.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkInteger } from '../options.ts'
import { malformed, type NetlinkMessage, NetlinkWriter, parsePayload } from './netlink-message.ts'
import { ACK, CREATE, checkIndex, familyOf, linkSubject, type RtnetlinkRequest } from './rtnetlink-request.ts'

/** The addresses that begin with the same bits. */
export interface Prefix {
  /** IPv4 or IPv6; bits behind the prefix are 0. */
  address: string
  /** 0..32, or 0..128. */
  prefixLength: number
}

/** A route of the main table, as RTM_NEWROUTE describes it. */
export interface Route extends Prefix {
  /** The link's that it goes out by. */
  index: number
}

interface RtMsg {
  family?: number
  prefixLength?: number
  scope?: number
}

function rtmsg({ family = 0, prefixLength = 0, scope = 0 }: RtMsg): Uint8Array {
  return Uint8Array.of(family, prefixLength, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0)
}

function routeRequest(
  name: 'RTM_NEWROUTE' | 'RTM_DELROUTE',
  flags: number,
  index: number,
  prefix: Prefix,
): RtnetlinkRequest {
  checkIndex(index)
  const { address, prefixLength } = prefix
  const bytes = parseIp(address, 'address')
  checkInteger(prefixLength, 'prefixLength', 0, 8 * bytes.length)
  checkHostBits(bytes, prefixLength)
  const family = familyOf(bytes)
  // Who is on the link itself; IPv6 has no scopes of routes.
  const scope = family === AF.AF_INET ? RT_SCOPE.RT_SCOPE_LINK : RT_SCOPE.RT_SCOPE_UNIVERSE
  const body = new NetlinkWriter()
    .struct(rtmsg({ family, prefixLength, scope }))
    .attribute(RTA.RTA_DST, bytes)
    .u32(RTA.RTA_OIF, index)
  return { name, flags, body, ...linkSubject(index, `${address}/${prefixLength} by `) }
}

/**
 * IPv4 refuses such a prefix, and IPv6 takes it for the one without those bits: neither says why.
 * @throws {InvalidOptionError} `ERR_OPTION_RANGE`
 */
export function checkHostBits(bytes: Uint8Array, prefixLength: number, option = 'address'): void {
  const isSet = bytes.some((byte, at) => (byte & (0xff >> Math.min(8, Math.max(0, prefixLength - 8 * at)))) !== 0)
  if (!isSet) return
  const problem = `${formatIp(bytes)} has bits behind its prefix of ${prefixLength}`
  throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem, { hint: 'They are to be 0.' })
}

/** RTM_NEWROUTE, to a prefix that there is no route to. */
export const addRouteRequest = (index: number, prefix: Prefix): RtnetlinkRequest =>
  routeRequest('RTM_NEWROUTE', CREATE, index, prefix)

/** RTM_DELROUTE. */
export const deleteRouteRequest = (index: number, prefix: Prefix): RtnetlinkRequest =>
  routeRequest('RTM_DELROUTE', ACK, index, prefix)

/** RTM_GETROUTE of all routes: the kernel picks a table out only for a socket with NETLINK_GET_STRICT_CHK. */
export function listRoutesRequest(): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(rtmsg({}))
  return { name: 'RTM_GETROUTE', flags: NLM_F.NLM_F_DUMP, body, subject: 'all routes', context: {} }
}

/**
 * The route that RTM_NEWROUTE describes; undefined for one of another table than the main one, one of several links or none,
 * and for a family other than IPv4 and IPv6.
 * @throws {SystemCallError} `EBADMSG`
 */
export function decodeRoute({ payload }: NetlinkMessage): Route | undefined {
  const { view, attributes } = parsePayload(payload, 12)
  const [family, prefixLength] = [view.getUint8(0), view.getUint8(1)]
  const index = attributes.u32(RTA.RTA_OIF)
  const table = attributes.u32(RTA.RTA_TABLE) ?? view.getUint8(4)
  if (index === undefined || table !== RT_TABLE_MAIN || view.getUint8(7) !== RTN_UNICAST) return undefined
  if (family !== AF.AF_INET && family !== AF.AF_INET6) return undefined
  const size = family === AF.AF_INET ? 4 : 16
  // The default route has none.
  const bytes = attributes.bytes(RTA.RTA_DST) ?? new Uint8Array(size)
  if (bytes.length !== size) throw malformed(`a destination of ${bytes.length} bytes`)
  return { index, address: formatIp(bytes), prefixLength }
}
