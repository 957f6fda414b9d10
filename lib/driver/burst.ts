// Many packets in one call, as struct of arrays.

/** Words in front of the arrays: packets that fit, packets, segments. */
const HEADER = 3
const PACKETS = 1
const SEGMENTS = 2

/**
 * A burst of packets over a pool of buffers. Packet p is the next `segments[p]` pairs of `offsets` (bytes into the
 * pool) and `lengths`; its first segment begins with the 12-byte virtio-net header. The arrays are filled and reused by
 * the caller or by `prepare` and `receive`; nothing is allocated per packet.
 */
export class Burst {
  readonly segments: Uint32Array
  readonly offsets: Uint32Array
  readonly lengths: Uint32Array
  /** @internal All of it, as the addon takes it: one argument instead of five. */
  readonly words: Uint32Array

  /** @param packets most packets it can hold. @param segments most segments of all packets together. */
  constructor(packets: number, segments = packets) {
    this.words = new Uint32Array(HEADER + packets + 2 * segments)
    this.words[0] = packets
    this.segments = this.words.subarray(HEADER, HEADER + packets)
    this.offsets = this.words.subarray(HEADER + packets, HEADER + packets + segments)
    this.lengths = this.words.subarray(HEADER + packets + segments)
  }

  /** Packets in it now. */
  get packets(): number {
    return this.words[PACKETS] as number
  }

  set packets(packets: number) {
    this.words[PACKETS] = packets
  }

  /** Segments in it now, of all packets. */
  get segmentCount(): number {
    return this.words[SEGMENTS] as number
  }

  set segmentCount(segments: number) {
    this.words[SEGMENTS] = segments
  }

  /** Appends a packet of one segment. */
  add(offset: number, length: number): void {
    this.segments[this.packets++] = 1
    this.offsets[this.segmentCount] = offset
    this.lengths[this.segmentCount++] = length
  }

  clear(): void {
    this.packets = 0
    this.segmentCount = 0
  }
}
