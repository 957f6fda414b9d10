// The queues of a macvtap, which are opened by a node of its own: /dev/tapN, N being its index (drivers/net/macvtap.c).

import { fstatSync } from 'node:fs'
import { IFF } from '../abi/tun.ts'
import { LinkError, SystemCallError } from '../errors.ts'
import { checkIfname } from './ifname.ts'
import { readKernelFile } from './kernel-file.ts'
import { type Link, RtNetlink } from './rtnetlink.ts'
import { Tap } from './tap.ts'

export interface MacvtapOptions {
  /** The macvtap: 1..15 bytes. It must exist, in the network namespace of this process. */
  ifname: string
  /** Whether it gets another queue than this one: IFF_MULTI_QUEUE. Default false. */
  multiQueue?: boolean
  /** A virtio header in front of each frame. Default true. */
  vnetHdr?: boolean
  /** Its node. Default `/dev/tapN`, which devtmpfs makes, or udev. */
  path?: string
}

/** The number of a macvtap's node as fstat(2) has it; undefined where sysfs does not tell. @throws {SystemCallError} */
export function macvtapRdev({ ifname, index }: Link): number | undefined {
  try {
    const [major = 0, minor = 0] = readKernelFile(`/sys/class/net/${ifname}/tap${index}/dev`).split(':').map(Number)
    return rdevOf(major, minor)
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENOENT') return undefined
    throw error
  }
}

// As glibc's makedev(3) has it. Majors are below 4096, minors of 20 bits (include/linux/kdev_t.h).
const rdevOf = (major: number, minor: number): number => (minor & 0xff) + major * 0x100 + (minor >> 8) * 0x100000
const describeRdev = (rdev: number): string =>
  `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | (Math.floor(rdev / 0x100000) << 8)}`

/**
 * Opens one more queue of a macvtap; there are 256 at most, and they do not come with frames that others get: the first one
 * gets all until there are more. It is checked that the node is the macvtap's own: one by that name may be left of another.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
 * @throws {LinkError} `ERR_LINK_ABSENT`: there is no such macvtap. `ERR_LINK_KIND`: the link, or the node, is something else
 * @throws {SystemCallError} `ENOENT`: there is no such node. `EACCES`, `EPERM`: nobody may open it. `EBUSY`: it has 256 queues
 */
export function openMacvtap({ ifname, multiQueue = false, vnetHdr = true, path }: MacvtapOptions): Tap {
  const link = findMacvtap(checkIfname(ifname))
  const node = path ?? `/dev/tap${link.index}`
  const rdev = macvtapRdev(link)
  const number = rdev === undefined ? 'MAJOR MINOR' : describeRdev(rdev).replace(':', ' ')
  const made = `mknod ${node} c ${number}`
  const flags = IFF.IFF_TAP | IFF.IFF_NO_PI | (vnetHdr ? IFF.IFF_VNET_HDR : 0) | (multiQueue ? IFF.IFF_MULTI_QUEUE : 0)
  const tap = Tap.openNode(node, flags, {
    ENOENT: `devtmpfs, or udev, makes it where /dev is the host's own; in a container, hand the node in: ${made}`,
    ENXIO: `It is of a macvtap that is gone; the one there is now has ${number}: ${made}`,
    ENODEV: `It is of a macvtap that is gone; the one there is now has ${number}: ${made}`,
    EACCES: `Who opens it needs to be root, or to own it: chown USER ${node}`,
    EPERM: 'The cgroup of this process allows no such device: libvirt, systemd and containers have lists of them.',
    EBUSY: 'A macvtap has at most 256 queues.',
  })
  try {
    const found = fstatSync(tap.fd).rdev
    if (tap.ifname === ifname && (rdev === undefined || rdev === found)) return tap
    throw new LinkError('ERR_LINK_KIND', `${node} is ${describeRdev(found)}, of '${tap.ifname}', not of '${ifname}'`, {
      hint: rdev === undefined ? 'Name its own node.' : `It has ${describeRdev(rdev)}: ${made}`,
      context: { ifname, path: node },
    })
  } catch (error) {
    tap.close()
    throw error
  }
}

function findMacvtap(ifname: string): Link {
  const netlink = RtNetlink.open()
  try {
    const link = netlink.getLink({ ifname })
    if (link?.kind === 'macvtap') return link
    const context = { ifname, kind: link?.kind ?? null }
    if (link === undefined) {
      throw new LinkError('ERR_LINK_ABSENT', `there is no macvtap '${ifname}' in this network namespace`, {
        hint: `Make it: ip link add ${ifname} link LOWER type macvtap mode bridge`,
        context,
      })
    }
    throw new LinkError('ERR_LINK_KIND', `'${ifname}' is a ${link.kind ?? 'network device'}, not a macvtap`, {
      hint: link.tun === undefined ? 'ip link show type macvtap lists them.' : `Open it as a tap: { tap: { ifname } }.`,
      context,
    })
  } finally {
    netlink.close()
  }
}
