// What two NICs of a soak, their taps and their flows have counted.

import type { SoakFlow } from './soak-flow.ts'
import type { SoakNic } from './soak-nic.ts'
import type { SoakSums } from './soak-sums.ts'

/** By direction: from the first NIC to the second, and back. @param flows by the NIC that sends */
export function account(nics: readonly SoakNic[], flows: readonly (readonly SoakFlow[])[]): SoakSums[] {
  const taps = nics.map((nic) => nic.tapStats())
  return nics.map((nic, source) => {
    const total = (counter: 'sent' | 'checked' | 'missing' | 'late' | 'doubled'): number =>
      flows[source]!.reduce((sum, flow) => sum + flow[counter], 0)
    const { rx_packets, rx_dropped, rx_frame_errors } = taps[source]!
    const { tx_packets, tx_dropped } = taps[1 - source]!
    return {
      sent: total('sent'),
      available: nic.sum('tx', 'available'),
      used: nic.sum('tx', 'used'),
      rx_packets,
      rx_refused: rx_dropped + rx_frame_errors,
      tx_packets,
      tx_dropped,
      received: nics[1 - source]!.sum('rx', 'frames'),
      checked: total('checked'),
      missing: total('missing'),
      late: total('late'),
      doubled: total('doubled'),
    }
  })
}
