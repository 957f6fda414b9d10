// Faults in the virtio-net header and in frames as Buffers.

import type { Fault } from './fault.ts'

const HEADER = 'a virtio-net header'
const PORT = 'a frame port'

export const FRAMES: readonly Fault[] = [
  {
    name: 'the last word of a frame is left out of its checksum',
    file: 'lib/driver/net-header.ts',
    line: 'const sum = onesComplementSum(bytes, at + csum_start, at + length)',
    faulty: 'const sum = onesComplementSum(bytes, at + csum_start, at + length - 2)',
    test: 'unit/net-header',
    title: `${HEADER} that leaves a checksum to the device [NET-TX-D19] [NET-TX-D20] [NET-TX-D21] says where it is, puts the pseudo-header there, and completing it makes the checksum`,
  },
  {
    name: 'a datagram whose checksum comes to 0 says that it has none',
    file: 'lib/driver/net-header.ts',
    line: 'setBe16(bytes, at + csum_start + csum_offset, sum === 0xffff ? 0xffff : 0xffff - sum)',
    faulty: 'setBe16(bytes, at + csum_start + csum_offset, 0xffff - sum)',
    test: 'unit/net-header',
    title: `${HEADER} that leaves a checksum to the device of a datagram whose checksum comes to 0, is completed to 0xffff, which says that there is one`,
  },
  {
    name: 'a received header is followed one byte behind its frame',
    file: 'lib/driver/net-header.ts',
    line: 'if (csum_start + csum_offset + 2 > length) {',
    faulty: 'if (csum_start + csum_offset + 1 > length) {',
    test: 'unit/net-header',
    title: `${HEADER} of a received frame that points outside the frame is not followed`,
  },
  {
    name: 'a frame may be cut into pieces of nothing',
    file: 'lib/driver/net-header.ts',
    line: 'if (Number.isInteger(gsoSize) && gsoSize >= 1 && gsoSize <= 0xfffe) return',
    faulty: 'if (Number.isInteger(gsoSize) && gsoSize >= 0 && gsoSize <= 0xfffe) return',
    test: 'unit/net-header',
    title: `${HEADER} refuses, and changes neither itself nor the frame gso_size 0`,
  },
  {
    name: 'the IP header is looked for in front of the VLAN tag',
    file: 'lib/driver/transport-header.ts',
    line: 'this.network = type + 2',
    faulty: 'this.network = ETHERNET_SIZE',
    test: 'unit/net-header',
    title: `${HEADER} that leaves cutting to the device names tcp over IPv4 as gso_type 1, with the length of all headers`,
  },
  {
    name: 'the last IPv6 fragment counts as a whole packet',
    file: 'lib/driver/transport-header.ts',
    line: "if (protocol === FRAGMENT && (be16(bytes, extension + 2) & 0xfff9) !== 0) refuse('is an IPv6 fragment')",
    faulty: "if (protocol === FRAGMENT && (be16(bytes, extension + 2) & 0x0001) !== 0) refuse('is an IPv6 fragment')",
    test: 'unit/net-header',
    title: `${HEADER} refuses, and changes neither itself nor the frame the last IPv6 fragment`,
  },
  {
    name: 'gso_size is not checked before sending',
    file: 'lib/driver/check-header.ts',
    line: 'checkGsoSize(header.gso_size)',
    faulty: 'void checkGsoSize',
    test: 'unit/net-header',
    title: `${HEADER} to be sent [NET-TX-D24] is refused with gso_size 0 with GSO`,
  },
  {
    name: 'hdr_len may end in the TCP header',
    file: 'lib/driver/check-header.ts',
    line: 'if (header.hdr_len < payload) {',
    faulty: 'if (header.hdr_len < start) {',
    test: 'unit/net-header',
    title: `${HEADER} to be sent [NET-TX-D26] is refused with hdr_len less than the headers`,
  },
  {
    name: 'a segment with CWR may be cut without ECN',
    file: 'lib/driver/check-header.ts',
    line: 'if (header.ecn || cwr) {',
    faulty: 'if (header.ecn && cwr) {',
    test: 'unit/net-header',
    title: `${HEADER} that leaves cutting to the device [NET-TX-D09] [NET-TX-D10] says of a TCP segment with CWR that it has ECN, and needs HOST_ECN for it`,
  },
  {
    name: 'merged buffers are joined in the wrong order',
    file: 'lib/driver/frame-port.ts',
    line: 'const offset = offsets[segment] as number',
    faulty: 'const offset = offsets[segmentCount - 1 - segment] as number',
    test: 'unit/frame-port',
    title: `${PORT} receiving joins merged buffers, copies frames out and gives the buffers back at once`,
  },
  {
    name: 'the buffers of a received frame stay with the port',
    file: 'lib/driver/frame-port.ts',
    line: 'this.#rx.releaseBurst(this.#received)',
    faulty: 'void this.#rx',
    test: 'unit/frame-port',
    title: `${PORT} receiving joins merged buffers, copies frames out and gives the buffers back at once`,
  },
  {
    name: 'what only a received header says is sent along',
    file: 'lib/driver/frame-sender.ts',
    line: 'sent.num_buffers = 0',
    faulty: 'void sent.num_buffers',
    test: 'unit/frame-port',
    title: `${PORT} sending puts the header in front, without what is only of receiving, and leaves the caller’s as it is`,
  },
  {
    name: 'buffers for which there were no frames are lost',
    file: 'lib/driver/frame-sender.ts',
    line: 'if (left > 0) this.#tx.release(this.#offsets.subarray(burst.segmentCount, buffers), left)',
    faulty: 'if (left < 0) this.#tx.release(this.#offsets.subarray(burst.segmentCount, buffers), left)',
    test: 'unit/frame-port',
    title: `${PORT} sending loses no buffer of the pool, however often frames find no room`,
  },
]
