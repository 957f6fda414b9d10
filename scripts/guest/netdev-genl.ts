// What a guest's kernel says of the queues of a network device by generic netlink, its family `netdev`: no program of Debian's
// asks for that, and socat can send and receive the messages.
//
// include/uapi/linux/netdev.h, genetlink.h; net/core/netdev-genl.c.

import {
  type NetlinkAttributes,
  type NetlinkMessage,
  NetlinkWriter,
  parseMessages,
  parseOutcome,
  parsePayload,
} from '../../lib/host/netlink-message.ts'

const AF_NETLINK = 16
const SOCK_RAW = 3
const NETLINK_GENERIC = 16
const NLM_F_REQUEST = 0x1
const NLM_F_DUMP = 0x300
/** `struct genlmsghdr`: command, version, and two bytes of nothing. */
const HEADER_BYTES = 4
const VERSION = 1

const CTRL = { id: 0x10, getFamily: 3, familyId: 1, familyName: 2 } as const
const NETDEV = { name: 'netdev', getQstats: 12, scopeQueue: 1, typeRx: 0 } as const
const QSTATS = {
  ifindex: 1,
  queueType: 2,
  queueId: 3,
  scope: 4,
  rx: { packets: 8, bytes: 9 },
  tx: { packets: 10, bytes: 11 },
} as const

/** What a queue has moved. */
export interface QueueStats {
  ring: 'rx' | 'tx'
  pair: number
  packets: number
  bytes: number
}

/** The id of the family, to begin with. */
export function familyRequest(): Uint8Array {
  return new NetlinkWriter()
    .struct(Uint8Array.of(CTRL.getFamily, VERSION, 0, 0))
    .string(CTRL.familyName, NETDEV.name)
    .finish({ type: CTRL.id, flags: NLM_F_REQUEST, sequence: 1 })
}

/** Of each queue of a link. */
export function queueStatsRequest(family: number, ifindex: number): Uint8Array {
  return new NetlinkWriter()
    .struct(Uint8Array.of(NETDEV.getQstats, VERSION, 0, 0))
    .u32(QSTATS.ifindex, ifindex)
    .u32(QSTATS.scope, NETDEV.scopeQueue)
    .finish({ type: family, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 2 })
}

/** A command line that sends a request, and prints what answers it in base64. */
export function exchange(request: Uint8Array): string {
  // pid 0 is the kernel; groups 0.
  const kernel = 'x00000000000000000000'
  const socket = `SOCKET-DATAGRAM:${AF_NETLINK}:${SOCK_RAW}:${NETLINK_GENERIC}:${kernel}`
  return `echo ${Buffer.from(request).toString('base64')} | base64 -d | socat -b 65536 -t 0.2 - ${socket} | base64`
}

/** What else the guest says would be amid it. */
function decode(text: string): NetlinkMessage[] {
  try {
    return parseMessages(Buffer.from(text, 'base64'))
  } catch (cause) {
    throw new Error(`what the guest's kernel answered cannot be read:\n${text}`, { cause })
  }
}

/** The answer's messages, without what ends it. @throws {Error} where the kernel refused, or it is cut */
function answer(text: string, { dump }: { dump: boolean }): NetlinkMessage[] {
  const messages = decode(text)
  const outcome = messages.map(parseOutcome).find((each) => each !== undefined)
  if (outcome !== undefined && outcome.errno !== 0) throw new Error(`the guest's kernel refused: ${outcome.errno}`)
  if (dump ? outcome === undefined : messages.length === 0)
    throw new Error('the kernel of the guest answered not at all')
  return messages.filter((message) => parseOutcome(message) === undefined)
}

/** An integer of 4 bytes, or of 8 where it needs them (NLA_UINT). */
function uint(attributes: NetlinkAttributes, type: number): number {
  return attributes.bytes(type)?.length === 8 ? attributes.u64s(type, 1)![0]! : (attributes.u32(type) ?? 0)
}

export function parseFamily(text: string): number {
  const [message] = answer(text, { dump: false })
  const id = message && parsePayload(message.payload, HEADER_BYTES).attributes.bytes(CTRL.familyId)
  if (id === undefined) throw new Error(`the guest's kernel has no ${NETDEV.name} family`)
  return id[0]! | (id[1]! << 8)
}

export function parseQueueStats(text: string): QueueStats[] {
  return answer(text, { dump: true }).map(({ payload }) => {
    const { attributes } = parsePayload(payload, HEADER_BYTES)
    const ring = attributes.u32(QSTATS.queueType) === NETDEV.typeRx ? 'rx' : 'tx'
    return {
      ring,
      pair: attributes.u32(QSTATS.queueId) ?? 0,
      packets: uint(attributes, QSTATS[ring].packets),
      bytes: uint(attributes, QSTATS[ring].bytes),
    }
  })
}
