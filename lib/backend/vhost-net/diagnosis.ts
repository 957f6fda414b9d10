// What is wrong with a ring that the kernel's worker cannot go on with: it says itself no more than that.

import { VIRTIO_F, vringSizes } from '../../abi/virtio.ts'
import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_F } from '../../abi/virtio-net.ts'
import type { GuestMemory } from '../../memory/index.ts'
import type { DescriptorChain } from '../../virtio/chain.ts'
import { DescriptorReader } from '../../virtio/descriptors.ts'
import { hasFeature } from '../../virtio/features.ts'
import { BrokenRing } from '../../virtio/ring-fault.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { NetRingFaultCause, RingName } from '../net-backend.ts'
import { vnetHdrSize } from './features.ts'

export interface Diagnosis {
  cause: NetRingFaultCause
  /** The entry, and what is wrong with it. */
  message: string
}

export interface PatientRing {
  ring: RingName
  memory: GuestMemory
  vring: Vring
  features: bigint
  /** The available index that the worker takes next (VHOST_GET_VRING_BASE). */
  base: number
}

const u16 = (value: number): number => value & 0xffff
/** `idx` of either ring, and the entries of the available one (virtio 1.x section 2.7.6). */
const IDX = 2
const ENTRIES = 4

/** The broken rule; undefined where none is. What the guest has put right meanwhile is not seen. */
export function diagnose(patient: PatientRing): Diagnosis | undefined {
  const { memory, vring, base } = patient
  const word = (address: number): number => {
    const bytes = Buffer.alloc(2)
    memory.read(address, bytes)
    return bytes.readUInt16LE()
  }
  const waiting = u16(word(vring.avail + IDX) - base)
  if (waiting > vring.num) {
    return {
      cause: 'avail-index',
      message: `the available index is ${waiting} ahead of ${base} in a ring of ${vring.num}`,
    }
  }
  const reader = readerOf(patient)
  const entry = (index: number): Diagnosis | undefined =>
    checkEntry(patient, reader, index, word(vring.avail + ENTRIES + 2 * (index % vring.num)))
  const next = waiting > 0 ? entry(base) : undefined
  if (next !== undefined) return next
  // The worker takes some buffers and never returns them (drivers/vhost/net.c: get_tx_bufs).
  const taken = u16(base - word(vring.used + IDX))
  // It goes on meanwhile where the guest has put right what was wrong: then it returned more than it had taken.
  if (taken > vring.num) return undefined
  for (let index = base - taken; index < base; index++) {
    const wrong = entry(u16(index))
    if (wrong !== undefined) return wrong
  }
  return undefined
}

function readerOf({ memory, vring, features }: PatientRing): DescriptorReader {
  const table = Buffer.alloc(vringSizes(vring.num).desc)
  memory.read(vring.desc, table)
  return new DescriptorReader(memory, table, hasFeature(features, VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC))
}

function checkEntry(
  { ring, features }: PatientRing,
  reader: DescriptorReader,
  index: number,
  head: number,
): Diagnosis | undefined {
  const at = `entry ${index} of the ${ring} ring (head ${head})`
  try {
    const chain = reader.chain(head)
    const wrong = ring === 'rx' ? checkRx(chain) : checkTx(chain, vnetHdrSize(features))
    return wrong && { ...wrong, message: `${at}: ${wrong.message}` }
  } catch (error) {
    if (error instanceof BrokenRing) return { cause: error.fault, message: `${at}: ${error.message}` }
    throw error
  }
}

function checkRx({ readable, writable }: DescriptorChain): Diagnosis | undefined {
  if (readable > 0) {
    return { cause: 'readable-in-rx', message: `a buffer to receive into has ${readable} bytes for the device to read` }
  }
  return writable === 0 ? { cause: 'empty-buffer', message: 'a buffer to receive into has no room' } : undefined
}

function checkTx(chain: DescriptorChain, headerSize: number): Diagnosis | undefined {
  const { readable, writable } = chain
  if (writable > 0) {
    return { cause: 'writable-in-tx', message: `a frame to send has ${writable} bytes for the device to write` }
  }
  if (readable === 0) return { cause: 'empty-buffer', message: 'a frame to send of no bytes' }
  if (readable < headerSize) {
    return {
      cause: 'short-header',
      message: `a frame to send of ${readable} bytes, of which its header has ${headerSize}`,
    }
  }
  const end = checksumEnd(chain.read(headerSize))
  if (end <= readable) return undefined
  return { cause: 'header-beyond-frame', message: `a checksum up to byte ${end}, with ${readable} bytes to send` }
}

/**
 * Where the checksum to be made ends, as the kernel sees it (drivers/vhost/net.c: vhost_net_build_xdp): 0 where none is,
 * or where it lies within the headers. It takes the bytes of its own header for some of the frame's.
 */
function checksumEnd(bytes: Uint8Array): number {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const word = (offset: number): number => header.getUint16(offset, true)
  if ((header.getUint8(VIRTIO_NET_HDR.flags) & VIRTIO_NET_HDR_F.VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return 0
  const end = word(VIRTIO_NET_HDR.csum_start) + word(VIRTIO_NET_HDR.csum_offset) + 2
  return end > word(VIRTIO_NET_HDR.hdr_len) ? end : 0
}
