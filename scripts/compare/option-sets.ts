// The options that a NIC of ours and one of QEMU's are given alike.

import type { VirtioNetOptions } from '../../lib/nic.ts'

export type NicOptions = Omit<VirtioNetOptions, 'memory' | 'backend' | 'mac'>

export interface OptionSet {
  readonly name: string
  readonly options: NicOptions
}

/** At most 8: QEMU's machine has no more virtio-mmio windows. */
export const OPTION_SETS: readonly OptionSet[] = [
  { name: 'one queue pair', options: {} },
  { name: 'four queue pairs', options: { queuePairs: 4 } },
  {
    name: 'four queue pairs, and values for the guest',
    options: { queuePairs: 4, mq: true, host_mtu: 9000, speed: 10_000, duplex: 'full' },
  },
  {
    name: 'no offloads',
    options: {
      csum: false,
      host_tso4: false,
      host_tso6: false,
      host_ecn: false,
      host_ufo: false,
      guest_csum: false,
      guest_tso4: false,
      guest_tso6: false,
      guest_ecn: false,
      guest_ufo: false,
    },
  },
  { name: 'no checksums', options: { csum: false, guest_csum: false } },
  { name: 'no link status, plain rings', options: { status: false, event_idx: false, indirect_desc: false } },
  { name: 'no control queue', options: { ctrl_vq: false } },
]
