// A netlink socket to rtnetlink: one request and what answers it.
//
// The kernel handles a request inside sendto(2), so the answer is queued when that returns, and nothing here waits for the
// event loop. A dump is produced piece by piece: receiving one piece makes the kernel queue the next (netlink_recvmsg).

import { constants } from 'node:os'
import { NETLINK, NLM_F } from '../abi/rtnetlink.ts'
import { binding, FdHandle, type NativeFd, systemCall } from '../binding/index.ts'
import { type NetlinkMessage, parseMessages, parseOutcome } from './netlink-message.ts'
import { refused } from './rtnetlink-refusal.ts'
import { encodeRequest, type RtnetlinkRequest } from './rtnetlink-request.ts'

// A dump's datagrams end at 32 KiB unless one link alone needs more (netlink_recvmsg: max_recvmsg_len), which only
// hundreds of alternative names could cause: SR-IOV functions are not asked for.
export const bufferBytes = 128 * 1024

/** How often an interrupted dump is repeated: interfaces would have to come and go all the time to use it up. */
const maxDumps = 16

/** @param groups RTMGRP_*. @throws {SystemCallError} `EAFNOSUPPORT`, `EMFILE`, `ENFILE` */
export function openSocket(groups: number, subject: string): NativeFd {
  return systemCall(() => binding().netlinkSocket(NETLINK.NETLINK_ROUTE, groups), {
    subject,
    hints: {
      EAFNOSUPPORT: 'Something forbids AF_NETLINK sockets to this process (systemd: RestrictAddressFamilies=).',
      EMFILE: 'Raise the limit of open files (ulimit -n).',
    },
  })
}

/** The messages of the next datagram; undefined where none is queued. They share no memory with the buffer. */
export function receive(handle: FdHandle, buffer: Uint8Array): NetlinkMessage[] | undefined {
  const length = systemCall(() => binding().netlinkReceive(handle.native, buffer), { subject: handle.label })
  return length === 0 ? undefined : parseMessages(buffer.slice(0, length))
}

/** A socket on which one request is answered after the other. */
export class RtnetlinkSocket extends FdHandle {
  #sequence = 0
  readonly #buffer = new Uint8Array(bufferBytes)

  /** Repeats a dump until it is of one moment; the kernel says when it is not (NLM_F_DUMP_INTR). */
  protected dump(request: RtnetlinkRequest): NetlinkMessage[] {
    for (let attempt = 0; attempt < maxDumps; attempt++) {
      const { messages, interrupted } = this.request(request)
      if (!interrupted) return messages
    }
    throw refused(request, { errno: -constants.errno.EINTR, text: `changed while it was read, ${maxDumps} times` })
  }

  /** Sends one request and returns what answers it, without the acknowledgement. */
  protected request(request: RtnetlinkRequest): { messages: NetlinkMessage[]; interrupted: boolean } {
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
