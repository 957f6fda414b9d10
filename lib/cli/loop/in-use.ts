// The IPv4 networks that this host's links are in.

import { parseIp } from '../../address.ts'
import type { RtNetlink } from '../../host/index.ts'
import { type Cidr, ipv4FromBytes } from './subnet.ts'

export function addressesInUse(netlink: RtNetlink): { ifname: string; cidr: Cidr }[] {
  return netlink.listLinks().flatMap(({ index, ifname }) =>
    netlink
      .listAddresses(index)
      .filter(({ family }) => family === 'ipv4')
      .map(({ address, prefixLength }) => {
        return { ifname, cidr: { address: ipv4FromBytes(parseIp(address, 'address')), prefixLength } }
      }),
  )
}
