// Ethernet frames with what a virtio-net header says of them.

import type { NetHeader } from './net-header.ts'

/** A frame to be sent. */
export interface Frame {
  /** From the Ethernet header to the end, without frame check sequence: 14..65549 bytes. */
  bytes: Uint8Array
  /** What the device is to do with it. Default: nothing. */
  header?: NetHeader
}

/** A received frame, copied out of the ring's buffers. */
export interface ReceivedFrame extends Frame {
  bytes: Buffer
  /** What the device says of it: whether its checksum is still to be made, and how large the pieces were it came in. */
  header: NetHeader
}
