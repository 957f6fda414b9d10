// Frames of a soak: UDP over IPv4, of which every 32-bit word follows from who sends it as which of how many. Written and
// checked word by word where they lie, since it is done a hundred million times.

import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { type FlowFrame, writeFrame } from './frames.ts'

/** Bytes of a frame, each a multiple of four; small ones mostly, since what costs is a frame, not a byte. */
const SIZES = [60, 60, 60, 60, 60, 60, 60, 124, 60, 60, 60, 60, 60, 252, 60, 1512] as const

/** Words in front of the sequence number: virtio, Ethernet, IPv4 and UDP header, and two bytes up to a word. */
const HEADER_WORDS = 14
const IDENTITY_WORDS = 2
/** Of a frame that comes in: its virtio header says that it lies in one buffer (virtio 1.x section 5.1.6.4.1). */
const NUM_BUFFERS_WORD = 2
const ONE_BUFFER = 1 << 16
const STEP = 0x9e3779b1 | 0

/** Bytes of a flow's frame with this sequence number, from the Ethernet header on. */
export const frameSize = (sequence: number): number => SIZES[sequence % SIZES.length]!

export class SoakFrames {
  readonly #identity: number
  /** Headers by size of the frame. */
  readonly #headers = new Map<number, Int32Array>()
  readonly #seed: number

  /** Those that one of the two NICs sends on one of its pairs. */
  constructor({ source, pair }: Pick<FlowFrame, 'source' | 'pair'>) {
    this.#identity = (source << 8) | pair
    this.#seed = Math.imul(this.#identity + 1, 0x85ebca6b)
    for (const size of SIZES) {
      const bytes = Buffer.alloc(4096)
      writeFrame(bytes, VIRTIO_NET_HDR_SIZE, { kind: 'udp', source, pair, size }, 0)
      const header = new Int32Array(bytes.buffer, bytes.byteOffset, HEADER_WORDS).slice()
      // The last two bytes are the first of writeFrame's payload, which is another one here.
      header[HEADER_WORDS - 1]! &= 0xffff
      this.#headers.set(size, header)
    }
  }

  /** Writes one with its virtio header to a word of the pool. @returns bytes */
  write(words: Int32Array, at: number, sequence: number): number {
    const size = frameSize(sequence)
    const end = (VIRTIO_NET_HDR_SIZE + size) / 4
    const header = this.#headers.get(size)!
    for (let i = 0; i < HEADER_WORDS; i++) words[at + i] = header[i]!
    words[at + HEADER_WORDS] = sequence
    words[at + HEADER_WORDS + 1] = this.#identity
    let word = this.#start(sequence)
    for (let i = HEADER_WORDS + IDENTITY_WORDS; i < end; i++) {
      words[at + i] = word
      word = (word + STEP) | 0
    }
    return end * 4
  }

  /** The sequence number of a frame of this flow that was received; undefined where any word of it is not as it was sent. */
  read(words: Int32Array, at: number, length: number): number | undefined {
    const sequence = words[at + HEADER_WORDS]! >>> 0
    const size = frameSize(sequence)
    if (length !== VIRTIO_NET_HDR_SIZE + size || words[at + HEADER_WORDS + 1] !== this.#identity) return undefined
    const header = this.#headers.get(size)!
    let wrong = words[at + NUM_BUFFERS_WORD]! ^ ONE_BUFFER
    for (let i = 0; i < HEADER_WORDS; i++) {
      if (i !== NUM_BUFFERS_WORD) wrong |= words[at + i]! ^ header[i]!
    }
    let word = this.#start(sequence)
    const end = length / 4
    for (let i = HEADER_WORDS + IDENTITY_WORDS; i < end; i++) {
      wrong |= words[at + i]! ^ word
      word = (word + STEP) | 0
    }
    return wrong === 0 ? sequence : undefined
  }

  #start(sequence: number): number {
    return Math.imul(sequence + 1, STEP) ^ this.#seed
  }
}

/** Which pair of the sender's a frame says it is of. */
export const pairOf = (words: Int32Array, at: number): number => words[at + HEADER_WORDS + 1]! & 0xff
