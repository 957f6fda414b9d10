// Steps that change a link by rtnetlink, and what every kind of network does to the link that is plugged in.

import { formatMac, parseMac } from '../address.ts'
import { LinkError, SystemCallError } from '../errors.ts'
import { type Link, RtNetlink } from '../host/rtnetlink.ts'
import type { Step } from './step.ts'

/** Takes a change back. */
export type LinkUndo = (netlink: RtNetlink) => void

export function withNetlink<T>(body: (netlink: RtNetlink) => T): T {
  const netlink = RtNetlink.open()
  try {
    return body(netlink)
  } finally {
    netlink.close()
  }
}

/** @throws {LinkError} `ERR_LINK_ABSENT` */
export function findLink(netlink: RtNetlink, ifname: string, what = 'link'): Link {
  const link = netlink.getLink({ ifname })
  if (link !== undefined) return link
  throw new LinkError('ERR_LINK_ABSENT', `there is no ${what} '${ifname}' in this network namespace`, {
    hint: 'ip link shows those there are.',
    context: { ifname },
  })
}

/**
 * A step that rtnetlink makes at once.
 * @param change makes it, and returns what takes it back; undefined where all is so already.
 */
export function netlinkStep(text: string, change: (netlink: RtNetlink) => LinkUndo | undefined): Step {
  return {
    text,
    apply: async () => {
      const undo = withNetlink(change)
      return undo === undefined ? undefined : async () => withNetlink(undo)
    },
  }
}

/** Does that to a link if it is still there: what was changed on one that was deleted went with it. */
export function whileThere(index: number, body: (netlink: RtNetlink, link: Link) => void): LinkUndo {
  return (netlink) => {
    try {
      const link = netlink.getLink({ index })
      if (link !== undefined) body(netlink, link)
    } catch (error) {
      if (!(error instanceof SystemCallError && error.code === 'ENODEV')) throw error
    }
  }
}

/**
 * Gives a tap the guest's address with `fe` as its first byte, as libvirt does: a bridge, of the kernel or of Open vSwitch,
 * has the lowest address of its ports, and is not to have a guest's. Of other links the address is their own, at which
 * somebody may listen.
 * @param guest its address
 */
export function tapMacStep(ifname: string, guest: string): Step {
  const mac = formatMac(Uint8Array.of(0xfe, ...parseMac(guest, 'mac').subarray(1)))
  const text = `give '${ifname}' the address ${mac}, if it is a tap: the guest's is not the bridge's`
  return netlinkStep(text, (netlink) => {
    const { index, tun, mac: before } = findLink(netlink, ifname)
    if (tun?.type !== 'tap' || before === undefined || before === mac) return undefined
    netlink.setLink(index, { mac })
    return whileThere(index, (again, link) => {
      if (link.mac === mac) again.setLink(index, { mac: before })
    })
  })
}

export function upStep(ifname: string): Step {
  return netlinkStep(`set '${ifname}' up`, (netlink) => {
    const { index, up } = findLink(netlink, ifname)
    if (up) return undefined
    netlink.setLink(index, { up: true })
    return whileThere(index, (again) => again.setLink(index, { up: false }))
  })
}

/** @param mtuOf says which one it is to have. */
export function mtuStep(ifname: string, text: string, mtuOf: (netlink: RtNetlink) => number): Step {
  return netlinkStep(text, (netlink) => {
    const { index, mtu: before } = findLink(netlink, ifname)
    const mtu = mtuOf(netlink)
    if (mtu === before) return undefined
    netlink.setLink(index, { mtu })
    // Whoever has changed it since wants it so.
    return whileThere(index, (again, link) => {
      if (link.mtu === mtu) again.setLink(index, { mtu: before })
    })
  })
}
