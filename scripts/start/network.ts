// The tap's network: a private one that this host does not use, for a tap that it does not have.

import { addressesInUse } from '../../lib/cli/loop/in-use.ts'
import { type Cidr, chooseSubnet } from '../../lib/cli/loop/subnet.ts'
import { InvalidOptionError } from '../../lib/errors.ts'
import { RtNetlink } from '../../lib/host/index.ts'

/** Besides the host's address: for the DHCP server to give away. */
export const LEASES = 10

/** @throws {InvalidOptionError} `ERR_OPTION_CONFLICT` */
export function chooseNetwork(ifname: string): Cidr {
  const netlink = RtNetlink.open()
  try {
    if (!ifname.includes('%') && netlink.getLink({ ifname }) !== undefined) {
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', '--ifname', `${ifname} is there already`, {
        hint: 'Choose another name, or leave the choice to the kernel.',
      })
    }
    const inUse = addressesInUse(netlink).map(({ cidr }) => cidr)
    const network = chooseSubnet(LEASES, inUse)
    if (network !== undefined) return network
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', '--ifname', 'every private network is in use on this host', {
      hint: 'Run it in a network namespace of its own: ip netns add start; ip netns exec start npm start.',
    })
  } finally {
    netlink.close()
  }
}
