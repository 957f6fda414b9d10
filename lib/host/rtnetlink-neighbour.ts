// Requests about a link's neighbours: its ARP (IPv4) and neighbour discovery (IPv6) tables. Pure; the socket is in
// rtnetlink.ts.
//
// include/uapi/linux/neighbour.h; what the kernel does: net/core/neighbour.c.

import { NDA, NUD } from '../abi/rtnetlink.ts'
import { parseIp, parseMac } from '../address.ts'
import { InvalidOptionError } from '../errors.ts'
import { NetlinkWriter } from './netlink-message.ts'
import { ACK, CREATE, checkIndex, familyOf, linkSubject, type RtnetlinkRequest } from './rtnetlink-request.ts'

/** An entry of the ARP (IPv4) or neighbour discovery (IPv6) table. */
export interface NewNeighbour {
  address: string
  /** `'52:54:00:12:34:56'` */
  mac: string
  /** `'permanent'`, the default, is never asked about or dropped. */
  state?: 'permanent' | 'reachable' | 'stale'
}

const neighbourStates = { permanent: NUD.NUD_PERMANENT, reachable: NUD.NUD_REACHABLE, stale: NUD.NUD_STALE }

function ndmsg(family: number, index: number, state: number): Uint8Array {
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, family)
  view.setInt32(4, index, true)
  view.setUint16(8, state, true)
  return bytes
}

/** RTM_NEWNEIGH, of an entry the link does not have. */
export function addNeighbourRequest(
  index: number,
  { address, mac, state = 'permanent' }: NewNeighbour,
): RtnetlinkRequest {
  checkIndex(index)
  if (!Object.hasOwn(neighbourStates, state)) {
    const expected = Object.keys(neighbourStates).join(', ')
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'state', `expected one of ${expected}, received ${String(state)}`)
  }
  const destination = parseIp(address, 'address')
  const body = new NetlinkWriter()
    .struct(ndmsg(familyOf(destination), index, neighbourStates[state]))
    .attribute(NDA.NDA_DST, destination)
    .attribute(NDA.NDA_LLADDR, parseMac(mac, 'mac'))
  return { name: 'RTM_NEWNEIGH', flags: CREATE, body, ...linkSubject(index, `${address} on `) }
}

/** RTM_DELNEIGH. */
export function deleteNeighbourRequest(index: number, address: string): RtnetlinkRequest {
  checkIndex(index)
  const destination = parseIp(address, 'address')
  const body = new NetlinkWriter().struct(ndmsg(familyOf(destination), index, 0)).attribute(NDA.NDA_DST, destination)
  return { name: 'RTM_DELNEIGH', flags: ACK, body, ...linkSubject(index, `${address} on `) }
}
