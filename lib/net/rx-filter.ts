// Which frames the driver wants: receive modes and the MAC table (virtio 1.x section 5.1.6.5.1 and 5.1.6.5.2).

import { formatMac } from '../address.ts'
import type { RxFilter } from '../backend/net-backend.ts'

const MAC_SIZE = 6
const COUNT_SIZE = 4

/** What the driver has said of it, its own address left out. */
export type RxModes = Readonly<RxFilter>

/**
 * As it is after a reset. Drivers that never say what they want get everything, as QEMU has it; who does starts with an
 * empty table.
 */
export const UNFILTERED: RxModes = { promiscuous: true, allMulticast: false, unicast: [], multicast: [] }

/** The same with the device's own address, which it always receives. */
export function withStation(modes: RxModes, mac: Uint8Array): RxFilter {
  const own = formatMac(mac)
  return { ...modes, unicast: [own, ...modes.unicast.filter((address) => address !== own)] }
}

/** The two tables of MAC_TABLE_SET: a count and that many addresses each. Undefined where they are cut or too long. */
export function parseMacTables(data: DataView): Pick<RxModes, 'unicast' | 'multicast'> | undefined {
  const unicast = parseTable(data, 0)
  if (unicast === undefined) return undefined
  const multicast = parseTable(data, unicast.end)
  if (multicast?.end !== data.byteLength) return undefined
  return { unicast: unicast.addresses, multicast: multicast.addresses }
}

function parseTable(data: DataView, at: number): { addresses: string[]; end: number } | undefined {
  if (at + COUNT_SIZE > data.byteLength) return undefined
  const count = data.getUint32(at, true)
  const first = at + COUNT_SIZE
  const end = first + count * MAC_SIZE
  if (end > data.byteLength) return undefined
  const address = (i: number): string =>
    formatMac(new Uint8Array(data.buffer, data.byteOffset + first + i * MAC_SIZE, MAC_SIZE))
  return { addresses: Array.from({ length: count }, (_, i) => address(i)), end }
}
