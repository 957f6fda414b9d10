// Faults in the cli room.

import type { Fault } from './fault.ts'

export const CLI: readonly Fault[] = [
  {
    name: 'the checksum of an echo request is right for sequence number 0 only',
    file: 'lib/cli/loop/frames.ts',
    line: 'return ~fold(sum + 2 * (sequence & 0xffff) + (sequence >>> 16)) & 0xffff',
    faulty: 'return ~fold(sum + (sequence & 0xffff) + (sequence >>> 16)) & 0xffff',
    test: 'unit/frames',
    title: 'EchoTemplate makes IPv4 and ICMP headers with valid checksums, for any sequence number and length',
  },
  {
    name: 'frames that the tap dropped are not counted',
    file: 'lib/cli/loop/report.ts',
    line: 'const exact = available === used && used === rx_packets + rx_dropped + rx_frame_errors',
    faulty: 'const exact = available === used && used === rx_packets + rx_frame_errors',
    test: 'unit/loop-report',
    title: 'conservation holds where every sum agrees, and only there',
  },
  {
    name: 'the address stays on a tap of somebody else',
    file: 'lib/cli/loop/rig.ts',
    line: 'restore(() => netlink.deleteAddress(index, key))',
    faulty: 'restore(() => undefined)',
    test: 'kernel/loop',
    title: 'vhost-net loop puts a tap that was there before back as it was',
  },
  {
    name: 'Ctrl-C ends the command in the middle',
    file: 'lib/cli/interrupt.ts',
    line: 'for (const name of signals) process.on(name, abort)',
    faulty: 'for (const name of signals.slice(1)) process.on(name, abort)',
    test: 'kernel/loop',
    title: 'vhost-net loop unwinds everything on SIGINT and exits with 130',
  },
  {
    name: 'wrong usage and failure swap their exit codes',
    file: 'lib/cli/exit-code.ts',
    line: 'return error instanceof UsageError || error instanceof InvalidOptionError ? 2 : 1',
    faulty: 'return error instanceof UsageError || error instanceof InvalidOptionError ? 1 : 2',
    test: 'kernel/loop',
    title: 'vhost-net loop says what is in the way, and how to get it out',
  },
]
