// Many packets in one call, as struct of arrays.

/**
 * A burst of packets over a pool of buffers. Packet p is the next `segments[p]` pairs of `offsets` (bytes into the
 * pool) and `lengths`; its first segment begins with the 12-byte virtio-net header. The arrays are filled and reused by
 * the caller or by `receive`; nothing is allocated per packet.
 */
export class Burst {
  /** Packets in it now. */
  packets = 0
  /** Segments in it now, of all packets. */
  segmentCount = 0
  readonly segments: Uint16Array
  readonly offsets: Uint32Array
  readonly lengths: Uint32Array

  /** @param packets most packets it can hold. @param segments most segments of all packets together. */
  constructor(packets: number, segments = packets) {
    this.segments = new Uint16Array(packets)
    this.offsets = new Uint32Array(segments)
    this.lengths = new Uint32Array(segments)
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
