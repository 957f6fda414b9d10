// The netlink wire format: messages and attributes, written and read. Pure; knows no socket and no protocol.
//
// include/uapi/linux/netlink.h. Headers are in host byte order, and every host this package runs on (x86-64, arm64) is
// little-endian. Messages and attributes begin at multiples of 4; an attribute's length leaves its padding out.

import { constants } from 'node:os'
import { NLA, NLM_F, NLMSG, NLMSGERR_ATTR } from '../abi/rtnetlink.ts'
import { SystemCallError } from '../errors.ts'

const messageHeaderBytes = 16
const attributeHeaderBytes = 4
const maxAttributeBytes = 0xffff

/** What stands in `struct nlmsghdr`, but for the length. */
export interface NetlinkHeader {
  type: number
  flags: number
  sequence: number
}

/** A message read: its header, and what follows it. */
export interface NetlinkMessage extends NetlinkHeader {
  payload: Uint8Array
}

function aligned(length: number): number {
  return (length + 3) & ~3
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** What is thrown for a message that breaks the format, or lacks what the kernel always sends. */
export function malformed(problem: string): SystemCallError {
  return new SystemCallError('EBADMSG', -constants.errno.EBADMSG, 'recv', `netlink message: ${problem}`)
}

/** Writes the body of one message: fixed headers and attributes, in the order of the calls. */
export class NetlinkWriter {
  #bytes = new Uint8Array(256)
  #view = viewOf(this.#bytes)
  #length = messageHeaderBytes

  /** A fixed header (`struct ifinfomsg` and the like), or any bytes; padded to a multiple of 4. */
  struct(bytes: Uint8Array): this {
    const at = this.#extend(aligned(bytes.length))
    this.#bytes.set(bytes, at)
    return this
  }

  /** @throws {RangeError} where the value and its header are longer than 65535 bytes. */
  attribute(type: number, value: Uint8Array): this {
    return this.#attribute(type, () => this.struct(value), value.length)
  }

  u8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value))
  }

  u16(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value & 0xff, value >> 8))
  }

  u32(type: number, value: number): this {
    const bytes = new Uint8Array(4)
    viewOf(bytes).setUint32(0, value, true)
    return this.attribute(type, bytes)
  }

  /** Text in UTF-8, with the NUL that the kernel's NLA_NUL_STRING policies ask for. */
  string(type: number, text: string): this {
    return this.attribute(type, Buffer.from(`${text}\0`))
  }

  /** An attribute made of what the callback writes: attributes, perhaps after a fixed header. */
  nest(type: number, write: (inner: this) => void): this {
    return this.#attribute(type | NLA.NLA_F_NESTED, () => write(this))
  }

  /** The message. */
  finish({ type, flags, sequence }: NetlinkHeader): Uint8Array {
    this.#view.setUint32(0, this.#length, true)
    this.#view.setUint16(4, type, true)
    this.#view.setUint16(6, flags, true)
    this.#view.setUint32(8, sequence, true)
    return this.#bytes.slice(0, this.#length)
  }

  #attribute(type: number, write: () => void, valueLength?: number): this {
    const start = this.#extend(attributeHeaderBytes)
    write()
    const length = valueLength === undefined ? this.#length - start : attributeHeaderBytes + valueLength
    if (length > maxAttributeBytes) throw new RangeError(`a netlink attribute of ${length} bytes; 65535 is the most`)
    this.#view.setUint16(start, length, true)
    this.#view.setUint16(start + 2, type, true)
    return this
  }

  /** Makes room at the end and returns where it begins; new bytes are 0. */
  #extend(count: number): number {
    const start = this.#length
    this.#length += count
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length))
      grown.set(this.#bytes)
      this.#bytes = grown
      this.#view = viewOf(grown)
    }
    return start
  }
}

/**
 * Splits a datagram into its messages.
 * @throws {SystemCallError} `EBADMSG` where a length is impossible.
 */
export function parseMessages(datagram: Uint8Array): NetlinkMessage[] {
  const view = viewOf(datagram)
  const messages: NetlinkMessage[] = []
  for (let at = 0; at < datagram.length; ) {
    const left = datagram.length - at
    if (left < messageHeaderBytes) throw malformed(`${left} bytes where a header of 16 begins`)
    const length = view.getUint32(at, true)
    if (length < messageHeaderBytes || length > left) throw malformed(`length ${length}, with ${left} bytes left`)
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      payload: datagram.subarray(at + messageHeaderBytes, at + length),
    })
    // The last message of a datagram may come without its padding.
    at += aligned(length)
  }
  return messages
}

/** The attributes of a message or of a nest, by type; of two of one type the later counts, as in the kernel, but for a list. */
export class NetlinkAttributes {
  readonly #values: ReadonlyMap<number, Uint8Array[]>

  private constructor(values: ReadonlyMap<number, Uint8Array[]>) {
    this.#values = values
  }

  /** @throws {SystemCallError} `EBADMSG` where a length is impossible. */
  static parse(bytes: Uint8Array): NetlinkAttributes {
    const view = viewOf(bytes)
    const values = new Map<number, Uint8Array[]>()
    for (let at = 0; at < bytes.length; ) {
      const left = bytes.length - at
      if (left < attributeHeaderBytes) throw malformed(`${left} bytes where an attribute's header of 4 begins`)
      const length = view.getUint16(at, true)
      const type = view.getUint16(at + 2, true) & NLA.NLA_TYPE_MASK
      if (length < attributeHeaderBytes || length > left) {
        throw malformed(`attribute ${type} of length ${length}, with ${left} bytes left`)
      }
      const value = bytes.subarray(at + attributeHeaderBytes, at + length)
      const others = values.get(type)
      if (others === undefined) values.set(type, [value])
      else others.push(value)
      at += aligned(length)
    }
    return new NetlinkAttributes(values)
  }

  get types(): number[] {
    return [...this.#values.keys()]
  }

  has(type: number): boolean {
    return this.#values.has(type)
  }

  bytes(type: number): Uint8Array | undefined {
    return this.#values.get(type)?.at(-1)
  }

  /** Every one of this type, in order: some messages list things so. */
  all(type: number): readonly Uint8Array[] {
    return this.#values.get(type) ?? []
  }

  /** @throws {SystemCallError} `EBADMSG` where the attribute is shorter than its value, as in all readers below. */
  u8(type: number): number | undefined {
    return this.#fixed(type, 1)?.getUint8(0)
  }

  u16(type: number): number | undefined {
    return this.#fixed(type, 2)?.getUint16(0, true)
  }

  u32(type: number): number | undefined {
    return this.#fixed(type, 4)?.getUint32(0, true)
  }

  /** An array of u64, of which the first `count` are wanted. Exact below 2⁵³. */
  u64s(type: number, count: number): number[] | undefined {
    const view = this.#fixed(type, 8 * count)
    return view && Array.from({ length: count }, (_, index) => Number(view.getBigUint64(8 * index, true)))
  }

  /** Text up to its first NUL. */
  string(type: number): string | undefined {
    const bytes = this.bytes(type)
    if (bytes === undefined) return undefined
    const end = bytes.indexOf(0)
    return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString()
  }

  nested(type: number): NetlinkAttributes | undefined {
    const bytes = this.bytes(type)
    return bytes && NetlinkAttributes.parse(bytes)
  }

  #fixed(type: number, length: number): DataView | undefined {
    const bytes = this.bytes(type)
    if (bytes === undefined) return undefined
    if (bytes.length < length) throw malformed(`attribute ${type} of ${bytes.length} bytes, not ${length}`)
    return viewOf(bytes)
  }
}

/**
 * Splits a message's payload into its fixed header and its attributes.
 * @throws {SystemCallError} `EBADMSG` where it is shorter than the header, or its attributes are malformed.
 */
export function parsePayload(
  payload: Uint8Array,
  headerBytes: number,
): { view: DataView; attributes: NetlinkAttributes } {
  if (payload.length < headerBytes) throw malformed(`a payload of ${payload.length} bytes, not ${headerBytes}`)
  return {
    view: viewOf(payload.subarray(0, headerBytes)),
    attributes: NetlinkAttributes.parse(payload.subarray(Math.min(aligned(headerBytes), payload.length))),
  }
}

/** How a request ended. */
export interface NetlinkOutcome {
  /** 0, or the errno, negative. */
  errno: number
  /** The kernel's own words about it, where it has any. */
  text: string | undefined
}

/**
 * Reads what ends the answer to a request: NLMSG_ERROR, which is also the acknowledgement, or NLMSG_DONE of a dump.
 * Undefined for every other message.
 * @throws {SystemCallError} `EBADMSG`
 */
export function parseOutcome({ type, flags, payload }: NetlinkMessage): NetlinkOutcome | undefined {
  if (type !== NLMSG.NLMSG_ERROR && type !== NLMSG.NLMSG_DONE) return undefined
  if (payload.length < 4) throw malformed(`an outcome of ${payload.length} bytes`)
  const errno = viewOf(payload).getInt32(0, true)
  if ((flags & NLM_F.NLM_F_ACK_TLVS) === 0) return { errno, text: undefined }
  const attributes = NetlinkAttributes.parse(
    payload.subarray(type === NLMSG.NLMSG_DONE ? 4 : 4 + echoedBytes(flags, payload)),
  )
  return { errno, text: attributes.string(NLMSGERR_ATTR.NLMSGERR_ATTR_MSG) }
}

/** How much of the request an NLMSG_ERROR repeats: its header, and the rest unless that was capped (netlink_ack). */
function echoedBytes(flags: number, payload: Uint8Array): number {
  const left = payload.length - 4
  if (left < messageHeaderBytes) throw malformed(`an acknowledgement that repeats ${left} bytes of its request`)
  if ((flags & NLM_F.NLM_F_CAPPED) !== 0) return messageHeaderBytes
  const length = viewOf(payload).getUint32(4, true)
  if (length < messageHeaderBytes || length > left) {
    throw malformed(`an acknowledgement of a request of ${length} bytes, with ${left} left`)
  }
  return Math.min(aligned(length), left)
}
