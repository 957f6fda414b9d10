// rtnetlink: the kernel's links, addresses, neighbours and routes, asked about, changed and watched over a netlink socket.
//
// rtnetlink(7), include/uapi/linux/rtnetlink.h, net/core/rtnetlink.c.

import { constants } from 'node:os'
import { SystemCallError } from '../errors.ts'
import type { WatchOptions } from '../event/index.ts'
import { type LinkEvent, LinkWatch } from './link-watch.ts'
import {
  type AddressKey,
  addAddressRequest,
  decodeAddress,
  deleteAddressRequest,
  type LinkAddress,
  listAddressesRequest,
  type NewAddress,
} from './rtnetlink-address.ts'
import {
  type BridgePortSettings,
  type BridgeSettings,
  type BridgeVlan,
  bridgeVlansRequest,
  decodeBridgeVlans,
  listBridgeVlansRequest,
  type NewBridgeVlan,
  setBridgePortRequest,
  setBridgeRequest,
} from './rtnetlink-bridge.ts'
import {
  addLinkRequest,
  decodeLink,
  deleteLinkRequest,
  getLinkRequest,
  type Link,
  type LinkKey,
  type LinkSettings,
  listLinksRequest,
  type NewLink,
  setLinkRequest,
} from './rtnetlink-link.ts'
import { addNeighbourRequest, deleteNeighbourRequest, type NewNeighbour } from './rtnetlink-neighbour.ts'
import { refused } from './rtnetlink-refusal.ts'
import {
  addRouteRequest,
  decodeRoute,
  deleteRouteRequest,
  listRoutesRequest,
  type Prefix,
  type Route,
} from './rtnetlink-route.ts'
import { openSocket, RtnetlinkSocket } from './rtnetlink-socket.ts'
import {
  addHtbClassRequest,
  addPoliceRequest,
  addQdiscRequest,
  decodeFilter,
  decodeHtbClass,
  decodeQdisc,
  deleteQdiscRequest,
  type FoundClass,
  type FoundFilter,
  type HtbClass,
  listClassesRequest,
  listFiltersRequest,
  listQdiscsRequest,
  type NewQdisc,
  type PoliceFilter,
  type Qdisc,
} from './rtnetlink-tc.ts'

export { type LinkEvent, LinkWatch } from './link-watch.ts'
export type { AddressKey, LinkAddress, NewAddress } from './rtnetlink-address.ts'
export type {
  BridgeInfo,
  BridgePortInfo,
  BridgePortSettings,
  BridgeSettings,
  BridgeVlan,
  NewBridgeVlan,
} from './rtnetlink-bridge.ts'
export type {
  Link,
  LinkKey,
  LinkSettings,
  LinkStats,
  MacvtapMode,
  NewLink,
  Operstate,
  TunInfo,
} from './rtnetlink-link.ts'
export type { NewNeighbour } from './rtnetlink-neighbour.ts'
export type { Prefix, Route } from './rtnetlink-route.ts'
export type { FoundClass, FoundFilter, HtbClass, NewQdisc, PoliceFilter, Qdisc } from './rtnetlink-tc.ts'

/**
 * A socket that asks the kernel about network interfaces and changes them, in the network namespace this process is in
 * when it opens it. One method = one request; no method waits for anything but the kernel's own lock (RTNL).
 *
 * Changes need CAP_NET_ADMIN. Every method throws
 * - InvalidOptionError `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` or `ERR_OPTION_CONFLICT` before anything is sent,
 * - SystemCallError where the kernel refuses: `syscall` is the message (`'RTM_SETLINK'`), `code` the errno's name, and
 *   the text the kernel's own where it gives a reason. `EPERM`: no CAP_NET_ADMIN. `ENODEV`: no such link,
 * - StateError `ERR_CLOSED`.
 *
 * @see include/uapi/linux/rtnetlink.h, net/core/rtnetlink.c, rtnetlink(7)
 */
export class RtNetlink extends RtnetlinkSocket {
  /** Opens a socket; needs no privilege. @throws {SystemCallError} `EAFNOSUPPORT`, `EMFILE`, `ENFILE` */
  static open(): RtNetlink {
    const label = 'rtnetlink socket'
    return new RtNetlink(openSocket(0, label), label)
  }

  /** The link of that name or index: RTM_GETLINK. Undefined where there is none. */
  getLink(key: LinkKey): Link | undefined {
    try {
      return this.request(getLinkRequest(key)).messages.map(decodeLink)[0]
    } catch (error) {
      if (error instanceof SystemCallError && error.code === 'ENODEV') return undefined
      throw error
    }
  }

  /**
   * All links of the network namespace: RTM_GETLINK with NLM_F_DUMP.
   * @throws {SystemCallError} `EINTR` where links came and went during each of 16 attempts.
   */
  listLinks(): Link[] {
    return this.dump(listLinksRequest()).flatMap((message) => decodeLink(message) ?? [])
  }

  /**
   * Makes a link and returns it as it then is: RTM_NEWLINK with NLM_F_CREATE | NLM_F_EXCL. It is down; a veth's peer,
   * too.
   * @throws {SystemCallError} `EEXIST`: the name is taken. `EOPNOTSUPP`: the kernel has no such kind. `EINVAL`: the
   *   driver refused the MTU. `ENODEV`: somebody deleted the link at once.
   */
  addLink(link: NewLink): Link {
    const request = addLinkRequest(link)
    this.request(request)
    const made = this.getLink({ ifname: link.ifname })
    if (made === undefined) {
      throw refused(request, { errno: -constants.errno.ENODEV, text: 'it was deleted as soon as it was made' })
    }
    return made
  }

  /**
   * Changes what is given: RTM_SETLINK. The kernel makes one change after the other: those before a refused one
   * stay made.
   * @throws {SystemCallError} `EINVAL`: the driver refused a value, such as the MTU. `EBUSY`: not while the link is up,
   *   or in another master. `EEXIST`: the new name is taken. `EADDRNOTAVAIL`: the MAC is a group address or zero.
   *   `EOPNOTSUPP`: the driver cannot change that.
   */
  setLink(index: number, settings: LinkSettings): void {
    this.request(setLinkRequest(index, settings))
  }

  /**
   * Deletes a link, a veth together with its peer: RTM_DELLINK. Returns when nothing in the kernel uses it any more,
   * after tens of milliseconds.
   * @throws {SystemCallError} `EOPNOTSUPP`: hardware and `lo` cannot be deleted; a tap that is open can.
   */
  deleteLink(index: number): void {
    this.request(deleteLinkRequest(index))
  }

  /**
   * Changes what is given of a bridge: RTM_NEWLINK.
   * @throws {SystemCallError} `EOPNOTSUPP`: the link is of another kind. `EPERM`: `vlan_default_pvid` changes only while
   *   `vlan_filtering` is off.
   */
  setBridge(index: number, settings: BridgeSettings): void {
    this.request(setBridgeRequest(index, settings))
  }

  /**
   * Changes what is given of a bridge's port: RTM_SETLINK of AF_BRIDGE. What a port was set to is forgotten when it leaves
   * the bridge.
   * @throws {SystemCallError} `EOPNOTSUPP`: the link is in no bridge.
   */
  setBridgePort(index: number, settings: BridgePortSettings): void {
    this.request(setBridgePortRequest(index, settings))
  }

  /** The VLANs that a bridge's port is in, in order: RTM_GETLINK of AF_BRIDGE. None where the link is no port. */
  listBridgeVlans(index: number): BridgeVlan[] {
    return this.dump(listBridgeVlansRequest())
      .map(decodeBridgeVlans)
      .filter((port) => port.index === index)
      .flatMap(({ vlans }) => vlans)
  }

  /**
   * Has a bridge's port be in these VLANs, too; of one that it is in, the flags change: RTM_SETLINK of AF_BRIDGE. They
   * have a meaning where the bridge's `vlan_filtering` is on.
   * @throws {SystemCallError} `EOPNOTSUPP`: the link is in no bridge.
   */
  addBridgeVlans(index: number, vlans: readonly NewBridgeVlan[]): void {
    if (vlans.length > 0) this.request(bridgeVlansRequest('RTM_SETLINK', index, vlans))
  }

  /** Takes a bridge's port out of VLANs: RTM_DELLINK of AF_BRIDGE. Those that it is not in are passed over. */
  deleteBridgeVlans(index: number, vids: readonly number[]): void {
    const vlans = vids.map((vid) => ({ vid }))
    if (vlans.length > 0) this.request(bridgeVlansRequest('RTM_DELLINK', index, vlans))
  }

  /** The IPv4 and IPv6 addresses of a link: RTM_GETADDR with NLM_F_DUMP. None where the link does not exist. */
  listAddresses(index: number): LinkAddress[] {
    return this.dump(listAddressesRequest())
      .flatMap((message) => decodeAddress(message) ?? [])
      .filter((address) => address.index === index)
  }

  /**
   * Gives a link an address: RTM_NEWADDR with NLM_F_CREATE | NLM_F_EXCL. An IPv6 address is tentative for a second or
   * two, unless `nodad`.
   * @throws {SystemCallError} `EEXIST`: the link has it. `EACCES`: IPv6 is switched off on the link.
   */
  addAddress(index: number, address: NewAddress): void {
    this.request(addAddressRequest(index, address))
  }

  /** Takes an address from a link: RTM_DELADDR. @throws {SystemCallError} `EADDRNOTAVAIL`: the link does not have it */
  deleteAddress(index: number, address: AddressKey): void {
    this.request(deleteAddressRequest(index, address))
  }

  /**
   * Adds an ARP (IPv4) or neighbour discovery (IPv6) entry: RTM_NEWNEIGH with NLM_F_CREATE | NLM_F_EXCL. The kernel
   * drops all entries, the permanent ones too, when the link goes down.
   * @throws {SystemCallError} `EEXIST`: there is an entry for the address.
   */
  addNeighbour(index: number, neighbour: NewNeighbour): void {
    this.request(addNeighbourRequest(index, neighbour))
  }

  /** Drops the entry for an address: RTM_DELNEIGH. @throws {SystemCallError} `ENOENT`: there is none */
  deleteNeighbour(index: number, address: string): void {
    this.request(deleteNeighbourRequest(index, address))
  }

  /** All routes of the main table that go out by a single link, IPv4 and IPv6: RTM_GETROUTE with NLM_F_DUMP. */
  listRoutes(): Route[] {
    return this.dump(listRoutesRequest()).flatMap((message) => decodeRoute(message) ?? [])
  }

  /**
   * Has what is for a prefix go out by a link, to neighbours there: RTM_NEWROUTE with NLM_F_CREATE | NLM_F_EXCL, as
   * `ip route add PREFIX dev IFNAME`. The kernel drops IPv4 routes by a link when it goes down.
   * @throws {SystemCallError} `EEXIST`: there is a route to the prefix, by whatever link. `ENETDOWN`: the link is down.
   */
  addRoute(index: number, prefix: Prefix): void {
    this.request(addRouteRequest(index, prefix))
  }

  /** Takes back what `addRoute` made: RTM_DELROUTE. @throws {SystemCallError} `ESRCH`: there is no such route */
  deleteRoute(index: number, prefix: Prefix): void {
    this.request(deleteRouteRequest(index, prefix))
  }

  /** The queueing disciplines of a link: RTM_GETQDISC with NLM_F_DUMP. */
  listQdiscs(index: number): Qdisc[] {
    return this.dump(listQdiscsRequest())
      .map(decodeQdisc)
      .filter((qdisc) => qdisc.index === index)
  }

  /**
   * Gives a link a queueing discipline in the place of the kernel's own: RTM_NEWQDISC with NLM_F_CREATE | NLM_F_EXCL.
   * @throws {SystemCallError} `EEXIST`: there is another. `ENOENT`: the kernel has no such kind.
   */
  addQdisc(index: number, qdisc: NewQdisc): void {
    this.request(addQdiscRequest(index, qdisc))
  }

  /** Takes it away, with its classes and filters; the kernel's own comes back: RTM_DELQDISC. @throws {SystemCallError} `ENOENT` */
  deleteQdisc(index: number, which: Pick<Qdisc, 'handle' | 'parent'>): void {
    this.request(deleteQdiscRequest(index, which))
  }

  /** HTB's classes on a link: RTM_GETTCLASS with NLM_F_DUMP. */
  listHtbClasses(index: number): FoundClass[] {
    return this.dump(listClassesRequest(index)).flatMap((message) => decodeHtbClass(message) ?? [])
  }

  /** Adds a class of HTB: RTM_NEWTCLASS with NLM_F_CREATE | NLM_F_EXCL. @throws {SystemCallError} `EEXIST` */
  addHtbClass(index: number, htb: HtbClass): void {
    this.request(addHtbClassRequest(index, htb))
  }

  /** The filters of a queueing discipline: RTM_GETTFILTER with NLM_F_DUMP. */
  listFilters(index: number, parent: number): FoundFilter[] {
    return this.dump(listFiltersRequest(index, parent)).flatMap((message) => decodeFilter(message) ?? [])
  }

  /**
   * Has everything that comes to a queueing discipline policed: RTM_NEWTFILTER with NLM_F_CREATE | NLM_F_EXCL.
   * @throws {SystemCallError} `EEXIST`; `ENOENT`: the kernel has no u32, or no police
   */
  addPolice(index: number, police: PoliceFilter): void {
    this.request(addPoliceRequest(index, police))
  }

  /** Reports every change of a link from now on, on a socket of its own. See {@link LinkWatch.open}. */
  watchLinks(callback: (event: LinkEvent) => void, options?: WatchOptions): LinkWatch {
    return LinkWatch.open(callback, options)
  }
}
