// rtnetlink: the kernel's links, addresses and neighbours, asked about, changed and watched over a netlink socket.
//
// rtnetlink(7), include/uapi/linux/rtnetlink.h, net/core/rtnetlink.c. The kernel handles a request inside sendto(2), so
// the answer is queued when that returns, and nothing here waits for the event loop. A dump is produced piece by piece:
// receiving one piece makes the kernel queue the next (netlink_recvmsg).

import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { NETLINK, NLM_F, RTM, RTMGRP } from '../abi/rtnetlink.ts'
import { binding, errnoName, FdHandle, type Hints, type NativeFd, systemCall } from '../binding/index.ts'
import { SystemCallError, VhostNetError } from '../errors.ts'
import { type Watch, type WatchOptions, watchReadable } from '../event/index.ts'
import { type NetlinkMessage, type NetlinkOutcome, parseMessages, parseOutcome } from './netlink-message.ts'
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
import { encodeRequest, type RtnetlinkRequest } from './rtnetlink-request.ts'

export type { AddressKey, LinkAddress, NewAddress } from './rtnetlink-address.ts'
export type { Link, LinkKey, LinkSettings, LinkStats, NewLink, Operstate, TunInfo } from './rtnetlink-link.ts'
export type { NewNeighbour } from './rtnetlink-neighbour.ts'

// A dump's datagrams end at 32 KiB unless one link alone needs more (netlink_recvmsg: max_recvmsg_len), which only
// hundreds of alternative names could cause: SR-IOV functions are not asked for.
const bufferBytes = 128 * 1024

/** How often an interrupted dump is repeated: interfaces would have to come and go all the time to use it up. */
const maxDumps = 16

/** By message and errno, or by errno. */
const hints: Hints = {
  EPERM: 'It takes CAP_NET_ADMIN in the user namespace that owns the network namespace.',
  ENODEV: 'The link does not exist, or not any more, in this network namespace.',
  EBUSY: 'Something uses the link: it may have to be down, or out of its bridge, first.',
  EACCES: 'For IPv6: it is switched off on this link (sysctl net.ipv6.conf.<ifname>.disable_ipv6).',
  'RTM_NEWLINK EEXIST': 'A link of this name exists already.',
  'RTM_SETLINK EEXIST': 'A link of this name exists already, here or in the network namespace it is to move to.',
  'RTM_NEWADDR EEXIST': 'The link has this address already.',
  'RTM_NEWNEIGH EEXIST': 'The link has an entry for this address already.',
  'RTM_NEWLINK EOPNOTSUPP': 'The kernel has no driver for this kind of link; modprobe may find it.',
  'RTM_NEWLINK EINVAL': 'The driver may have a narrower range of MTUs (ip -d link: minmtu, maxmtu).',
  'RTM_SETLINK EINVAL':
    'The driver may have a narrower range of MTUs (ip -d link: minmtu, maxmtu); a master is a bridge, bond or vrf.',
  'RTM_DELLINK EOPNOTSUPP': 'Only virtual links can be deleted, and lo is none of them.',
  'RTM_DELADDR EADDRNOTAVAIL': 'The link has no such address with this prefix length.',
  'RTM_DELNEIGH ENOENT': 'The link has no entry for this address.',
}

function openSocket(groups: number, subject: string): NativeFd {
  return systemCall(() => binding().netlinkSocket(NETLINK.NETLINK_ROUTE, groups), {
    subject,
    hints: {
      EAFNOSUPPORT: 'Something forbids AF_NETLINK sockets to this process (systemd: RestrictAddressFamilies=).',
      EMFILE: 'Raise the limit of open files (ulimit -n).',
    },
  })
}

/** The messages of the next datagram; undefined where none is queued. They share no memory with the buffer. */
function receive(handle: FdHandle, buffer: Uint8Array): NetlinkMessage[] | undefined {
  const length = systemCall(() => binding().netlinkReceive(handle.native, buffer), { subject: handle.label })
  return length === 0 ? undefined : parseMessages(buffer.slice(0, length))
}

function refused({ name, subject, context }: RtnetlinkRequest, { errno, text }: NetlinkOutcome): SystemCallError {
  const code = errnoName(-errno)
  const why = text ?? getSystemErrorMap().get(errno)?.[1]
  const hint = hints[`${name} ${code}`] ?? hints[code]
  const message = `${name} on ${subject}: ${why === undefined ? code : `${code}, ${why}`}`
  return new SystemCallError(code, errno, name, message, { context, ...(hint !== undefined && { hint }) })
}

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
export class RtNetlink extends FdHandle {
  #sequence = 0
  readonly #buffer = new Uint8Array(bufferBytes)

  /** Opens a socket; needs no privilege. @throws {SystemCallError} `EAFNOSUPPORT`, `EMFILE`, `ENFILE` */
  static open(): RtNetlink {
    const label = 'rtnetlink socket'
    return new RtNetlink(openSocket(0, label), label)
  }

  /** The link of that name or index: RTM_GETLINK. Undefined where there is none. */
  getLink(key: LinkKey): Link | undefined {
    try {
      return this.#request(getLinkRequest(key)).messages.map(decodeLink)[0]
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
    return this.#dump(listLinksRequest()).flatMap((message) => decodeLink(message) ?? [])
  }

  /**
   * Makes a link and returns it as it then is: RTM_NEWLINK with NLM_F_CREATE | NLM_F_EXCL. It is down; a veth's peer,
   * too.
   * @throws {SystemCallError} `EEXIST`: the name is taken. `EOPNOTSUPP`: the kernel has no such kind. `EINVAL`: the
   *   driver refused the MTU. `ENODEV`: somebody deleted the link at once.
   */
  addLink(link: NewLink): Link {
    const request = addLinkRequest(link)
    this.#request(request)
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
    this.#request(setLinkRequest(index, settings))
  }

  /**
   * Deletes a link, a veth together with its peer: RTM_DELLINK. Returns when nothing in the kernel uses it any more,
   * after tens of milliseconds.
   * @throws {SystemCallError} `EOPNOTSUPP`: hardware and `lo` cannot be deleted; a tap that is open can.
   */
  deleteLink(index: number): void {
    this.#request(deleteLinkRequest(index))
  }

  /** The IPv4 and IPv6 addresses of a link: RTM_GETADDR with NLM_F_DUMP. None where the link does not exist. */
  listAddresses(index: number): LinkAddress[] {
    return this.#dump(listAddressesRequest())
      .flatMap((message) => decodeAddress(message) ?? [])
      .filter((address) => address.index === index)
  }

  /**
   * Gives a link an address: RTM_NEWADDR with NLM_F_CREATE | NLM_F_EXCL. An IPv6 address is tentative for a second or
   * two, unless `nodad`.
   * @throws {SystemCallError} `EEXIST`: the link has it. `EACCES`: IPv6 is switched off on the link.
   */
  addAddress(index: number, address: NewAddress): void {
    this.#request(addAddressRequest(index, address))
  }

  /** Takes an address from a link: RTM_DELADDR. @throws {SystemCallError} `EADDRNOTAVAIL`: the link does not have it */
  deleteAddress(index: number, address: AddressKey): void {
    this.#request(deleteAddressRequest(index, address))
  }

  /**
   * Adds an ARP (IPv4) or neighbour discovery (IPv6) entry: RTM_NEWNEIGH with NLM_F_CREATE | NLM_F_EXCL. The kernel
   * drops all entries, the permanent ones too, when the link goes down.
   * @throws {SystemCallError} `EEXIST`: there is an entry for the address.
   */
  addNeighbour(index: number, neighbour: NewNeighbour): void {
    this.#request(addNeighbourRequest(index, neighbour))
  }

  /** Drops the entry for an address: RTM_DELNEIGH. @throws {SystemCallError} `ENOENT`: there is none */
  deleteNeighbour(index: number, address: string): void {
    this.#request(deleteNeighbourRequest(index, address))
  }

  /** Reports every change of a link from now on, on a socket of its own. See {@link LinkWatch.open}. */
  watchLinks(callback: (event: LinkEvent) => void, options?: WatchOptions): LinkWatch {
    return LinkWatch.open(callback, options)
  }

  /** Repeats a dump until it is of one moment; the kernel says when it is not (NLM_F_DUMP_INTR). */
  #dump(request: RtnetlinkRequest): NetlinkMessage[] {
    for (let attempt = 0; attempt < maxDumps; attempt++) {
      const { messages, interrupted } = this.#request(request)
      if (!interrupted) return messages
    }
    throw refused(request, { errno: -constants.errno.EINTR, text: `changed while it was read, ${maxDumps} times` })
  }

  /** Sends one request and returns what answers it, without the acknowledgement. */
  #request(request: RtnetlinkRequest): { messages: NetlinkMessage[]; interrupted: boolean } {
    this.#sequence = (this.#sequence + 1) >>> 0
    const bytes = encodeRequest(request, this.#sequence)
    systemCall(() => binding().netlinkSend(this.native, bytes), { subject: this.label, context: request.context })
    const messages: NetlinkMessage[] = []
    let interrupted = false
    for (;;) {
      const received = receive(this, this.#buffer)
      if (received === undefined) throw refused(request, { errno: -constants.errno.ENOMSG, text: 'no answer came' })
      for (const message of received) {
        // What a request that failed half-way has left.
        if (message.sequence !== this.#sequence) continue
        interrupted ||= (message.flags & NLM_F.NLM_F_DUMP_INTR) !== 0
        const outcome = parseOutcome(message)
        if (outcome === undefined) messages.push(message)
        else if (outcome.errno === 0) return { messages, interrupted }
        else throw refused(request, outcome)
      }
    }
  }
}

/** What happened to links. */
export type LinkEvent =
  /** A link was made, or something about it changed: it is now so. */
  | { type: 'new'; link: Link }
  /** A link was deleted, or left this network namespace: it was last so. */
  | { type: 'del'; link: Link }
  /** Events were lost, because they came faster than they were read or were unreadable: list the links again. */
  | { type: 'overrun'; error: VhostNetError }

/** A running watch of links; close it to stop. */
export class LinkWatch extends FdHandle {
  readonly #buffer = new Uint8Array(bufferBytes)
  readonly #callback: (event: LinkEvent) => void
  /** Read but not reported yet: empty, unless the callback threw or closed the watch. */
  readonly #pending: LinkEvent[] = []
  #watch: Watch | undefined

  private constructor(native: NativeFd, label: string, callback: (event: LinkEvent) => void) {
    super(native, label)
    this.#callback = callback
  }

  /**
   * Reports every change of a link in this network namespace, from now until it is closed, in order: RTMGRP_LINK. Open
   * it before listing the links, and nothing is missed. Whatever goes wrong later is reported as an `'overrun'` event.
   * The callback should not throw: that would be an uncaught exception, and delay the events behind it.
   * @throws {SystemCallError} `EAFNOSUPPORT`, `EMFILE`, `ENFILE`
   */
  static open(callback: (event: LinkEvent) => void, options?: WatchOptions): LinkWatch {
    const label = 'rtnetlink link events'
    const opened = new LinkWatch(openSocket(RTMGRP.RTMGRP_LINK, label), label, callback)
    try {
      opened.#watch = watchReadable(opened, () => opened.#read(), options)
    } catch (error) {
      opened.close()
      throw error
    }
    return opened
  }

  override close(): void {
    this.#stop()
    super.close()
  }

  override detach(): number {
    this.#stop()
    return super.detach()
  }

  #stop(): void {
    this.#watch?.stop()
    this.#watch = undefined
  }

  #read(): void {
    this.#drain()
    // The callback may close the watch.
    while (!this.closed) {
      const event = this.#pending.shift()
      if (event === undefined) return
      this.#callback(event)
    }
  }

  /**
   * Takes in all that is queued, and only then notes that something was lost. Until the queue is empty the kernel drops
   * further messages without saying so again (netlink_overrun, netlink_rcv_wake: NETLINK_S_CONGESTED), so the consumer
   * has to list the links after that.
   */
  #drain(): void {
    let lost: VhostNetError | undefined
    for (;;) {
      try {
        const messages = receive(this, this.#buffer)
        if (messages === undefined) break
        this.#pending.push(...messages.flatMap(toEvent))
      } catch (error) {
        // An error of this socket always means lost messages: the kernel could not queue one or not build one
        // (rtnl_set_sk_err). Reading it clears it, so this ends.
        if (!(error instanceof VhostNetError)) throw error
        lost = error
      }
    }
    if (lost !== undefined) this.#pending.push({ type: 'overrun', error: lost })
  }
}

function toEvent(message: NetlinkMessage): LinkEvent[] {
  if (message.type !== RTM.RTM_NEWLINK && message.type !== RTM.RTM_DELLINK) return []
  const link = decodeLink(message)
  if (link === undefined) return []
  return [{ type: message.type === RTM.RTM_NEWLINK ? 'new' : 'del', link }]
}
