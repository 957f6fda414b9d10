// What is plugged in, whatever it is plugged into.

import { formatMac, parseMac } from '../address.ts'
import { checkIfname } from '../host/ifname.ts'
import { checkInteger, checkObject } from '../options.ts'

/** A NIC's end in this host: a tap, or any other link. */
export interface PluggedLink {
  readonly ifname: string
  /** The guest's address. Open vSwitch has it as `external_ids:attached-mac`. */
  readonly mac: string
  /** 68..65535. Default: that of the Linux bridge, or of the link below a macvtap; else it is left as it is. */
  readonly mtu?: number | undefined
}

/** Of IPv4 (RFC 791), of Open vSwitch's `mtu_request`, and of what a tap takes at most. */
const MTU = { least: 68, most: 65_535 } as const

/** With the address as the kernel writes it. @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkLink(value: unknown): PluggedLink {
  const { ifname, mac, mtu } = checkObject(value, ['ifname', 'mac', 'mtu'])
  return {
    ifname: checkIfname(ifname),
    mac: formatMac(parseMac(mac, 'mac')),
    mtu: mtu === undefined ? undefined : checkInteger(mtu, 'mtu', MTU.least, MTU.most),
  }
}
