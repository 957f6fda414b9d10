// Requests about a link's addresses, and an address as the kernel describes it. Pure; the socket is in rtnetlink.ts.
//
// include/uapi/linux/if_addr.h; what the kernel does: net/ipv4/devinet.c, net/ipv6/addrconf.c.

import { AF, IFA, IFA_F, NLM_F } from '../abi/rtnetlink.ts'
import { formatIp, parseIp } from '../address.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkInteger } from '../options.ts'
import { malformed, type NetlinkMessage, NetlinkWriter, parsePayload } from './netlink-message.ts'
import { ACK, CREATE, checkIndex, familyOf, linkSubject, present, type RtnetlinkRequest } from './rtnetlink-request.ts'

/** An address of a link, as RTM_NEWADDR describes it. */
export interface LinkAddress {
  /** The link's. */
  index: number
  family: 'ipv4' | 'ipv6'
  address: string
  /** 0..32, or 0..128. */
  prefixLength: number
  /** The other end's address, on a point-to-point link. */
  peer?: string
  broadcast?: string
  /** `rt_scope_t` of `linux/rtnetlink.h`: 0 everywhere, 253 on the link, 254 on this host. */
  scope: number
  /** IFA_F_* of `linux/if_addr.h`. */
  flags: number
  /** Not usable yet, while IPv6 looks for another host that has it. */
  tentative: boolean
  /** Another host has it, so it stays unusable. */
  dadFailed: boolean
}

/** Names one address of a link. */
export interface AddressKey {
  /** IPv4 or IPv6, without zone. */
  address: string
  /** 0..32, or 0..128. */
  prefixLength: number
  /** The other end's address, on a point-to-point link; then the prefix is of this one. */
  peer?: string
}

/** An address to be given to a link. */
export interface NewAddress extends AddressKey {
  /** IPv4 only. Default none. */
  broadcast?: string
  /** Use it at once, without looking for another host that has it; IPv6 only. Default false. */
  nodad?: boolean
  /** Make no route to the prefix. Default false. */
  noprefixroute?: boolean
}

function ifaddrmsg(family: number, prefixLength: number, index: number): Uint8Array {
  const bytes = new Uint8Array(8)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, family)
  view.setUint8(1, prefixLength)
  view.setUint32(4, index, true)
  return bytes
}

/** What RTM_NEWADDR and RTM_DELADDR begin with. */
function addressBody(index: number, { address, prefixLength, peer }: AddressKey): NetlinkWriter {
  checkIndex(index)
  const local = parseIp(address, 'address')
  const other = peer === undefined ? local : parseIp(peer, 'peer')
  if (other.length !== local.length) throw familyConflict('peer')
  checkInteger(prefixLength, 'prefixLength', 0, 8 * local.length)
  return new NetlinkWriter()
    .struct(ifaddrmsg(familyOf(local), prefixLength, index))
    .attribute(IFA.IFA_LOCAL, local)
    .attribute(IFA.IFA_ADDRESS, other)
}

function familyConflict(option: string): InvalidOptionError {
  return new InvalidOptionError('ERR_OPTION_CONFLICT', option, 'is of another address family than address')
}

/** RTM_NEWADDR, of an address the link does not have. */
export function addAddressRequest(index: number, settings: NewAddress): RtnetlinkRequest {
  const { address, prefixLength, broadcast, nodad, noprefixroute } = settings
  const body = addressBody(index, settings)
  if (broadcast !== undefined) {
    const bytes = parseIp(broadcast, 'broadcast')
    if (bytes.length !== parseIp(address, 'address').length) throw familyConflict('broadcast')
    if (bytes.length !== 4) {
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'broadcast', 'IPv6 has no broadcast addresses')
    }
    body.attribute(IFA.IFA_BROADCAST, bytes)
  }
  const flags = (nodad === true ? IFA_F.IFA_F_NODAD : 0) | (noprefixroute === true ? IFA_F.IFA_F_NOPREFIXROUTE : 0)
  if (flags !== 0) body.u32(IFA.IFA_FLAGS, flags)
  return { name: 'RTM_NEWADDR', flags: CREATE, body, ...linkSubject(index, `${address}/${prefixLength} on `) }
}

/** RTM_DELADDR. */
export function deleteAddressRequest(index: number, key: AddressKey): RtnetlinkRequest {
  const body = addressBody(index, key)
  return { name: 'RTM_DELADDR', flags: ACK, body, ...linkSubject(index, `${key.address}/${key.prefixLength} on `) }
}

/** RTM_GETADDR of all links: the kernel picks one link out only for a socket with NETLINK_GET_STRICT_CHK. */
export function listAddressesRequest(): RtnetlinkRequest {
  const body = new NetlinkWriter().struct(ifaddrmsg(AF.AF_UNSPEC, 0, 0))
  return { name: 'RTM_GETADDR', flags: NLM_F.NLM_F_DUMP, body, subject: 'all addresses', context: {} }
}

/** The address that RTM_NEWADDR describes; undefined for a family other than IPv4 and IPv6. @throws `EBADMSG` */
export function decodeAddress({ payload }: NetlinkMessage): LinkAddress | undefined {
  const { view, attributes } = parsePayload(payload, 8)
  const family = view.getUint8(0)
  if (family !== AF.AF_INET && family !== AF.AF_INET6) return undefined
  const ip = (type: number): string | undefined => {
    const bytes = attributes.bytes(type)
    if (bytes === undefined) return undefined
    if (bytes.length !== (family === AF.AF_INET ? 4 : 16)) throw malformed(`an address of ${bytes.length} bytes`)
    return formatIp(bytes)
  }
  // IFA_ADDRESS is the prefix's address: the peer's where there is one. IPv6 sends IFA_LOCAL only then (if_addr.h).
  const prefix = present(ip(IFA.IFA_ADDRESS), 'IFA_ADDRESS')
  const address = ip(IFA.IFA_LOCAL) ?? prefix
  const broadcast = ip(IFA.IFA_BROADCAST)
  const flags = attributes.u32(IFA.IFA_FLAGS) ?? view.getUint8(2)
  return {
    index: view.getUint32(4, true),
    family: family === AF.AF_INET ? 'ipv4' : 'ipv6',
    address,
    prefixLength: view.getUint8(1),
    ...(prefix !== address && { peer: prefix }),
    ...(broadcast !== undefined && { broadcast }),
    scope: view.getUint8(3),
    flags,
    tentative: (flags & IFA_F.IFA_F_TENTATIVE) !== 0,
    dadFailed: (flags & IFA_F.IFA_F_DADFAILED) !== 0,
  }
}
