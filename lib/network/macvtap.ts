// A macvtap: a NIC that shares a link of the host without a bridge, as libvirt's `<interface type='direct'>` does.

import { NET_DEVICE_FLAGS } from '../abi/rtnetlink.ts'
import { InvalidOptionError, LinkError, SystemCallError } from '../errors.ts'
import { checkIfname } from '../host/ifname.ts'
import type { Link, MacvtapMode, RtNetlink } from '../host/rtnetlink.ts'
import { checkMacvtapMode } from '../host/rtnetlink-link.ts'
import { checkObject } from '../options.ts'
import { findLink, netlinkStep, upStep, whileThere, withNetlink } from './link-steps.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import type { Step } from './step.ts'

export interface MacvtapPlugOptions {
  /** The link that it is on: `eth0`. It must exist, be Ethernet, be in no bridge, and be up for frames to pass. */
  readonly lower: string
  /**
   * Whom it talks to: `bridge`, the default, others on that link, at once; `vepa` them by way of a switch that sends back;
   * `private` none of them; `passthru` has the link to itself, with its address. The host reaches it in none of these: what
   * the host sends on its own link does not come to a macvtap there.
   */
  readonly mode?: MacvtapMode
}

/**
 * The steps that make a macvtap with the guest's address and set it up; a NIC is then opened over it:
 * `backend: { macvtap: { ifname } }`. It takes in all multicast, since nothing tells its kernel what the guest wants of it.
 * A macvtap without `mtu` gets that of the link below. In mode `passthru` the link below gets the guest's address, for as
 * long as there is the macvtap. It does not set the link below up.
 * @throws {InvalidOptionError} `ERR_OPTION_*`; `ERR_OPTION_CONFLICT`: the MTU is over that of the link below, or the address
 *   is that one's
 * @throws {LinkError} `ERR_LINK_ABSENT`: there is no link to be on. `ERR_LINK_KIND`: it is not Ethernet. `ERR_LINK_TAKEN`: it
 *   is in a bridge, or a passthru excludes another one on it, or a link has the name already
 */
export async function planMacvtap(link: PluggedLink, options: MacvtapPlugOptions): Promise<Step[]> {
  const { ifname, mac, mtu } = checkLink(link)
  const { lower, mode } = checkMacvtapOptions(options)
  const wanted: Wanted = { ifname, mac, mtu, lower, mode }
  withNetlink((netlink) => {
    const below = findLower(netlink, wanted)
    if (findExisting(netlink, wanted, below) === undefined) checkPlace(netlink, wanted, below)
  })
  return [addStep(wanted), ...(mode === 'passthru' ? [macStep(wanted)] : []), multicastStep(ifname), upStep(ifname)]
}

interface Wanted extends PluggedLink {
  lower: string
  mode: MacvtapMode
}

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkMacvtapOptions(value: unknown): Required<MacvtapPlugOptions> {
  const { lower, mode = 'bridge' } = checkObject(value, ['lower', 'mode'])
  return { lower: checkIfname(lower, 'lower'), mode: checkMacvtapMode(mode) }
}

/** The link to be on. */
function findLower(netlink: RtNetlink, { lower, mac, mtu, mode }: Wanted): Link {
  const link = findLink(netlink, lower, 'link to be on,')
  const context = { ifname: lower }
  if ((link.flags & NET_DEVICE_FLAGS.IFF_LOOPBACK) !== 0 || link.tun?.type === 'tun') {
    throw new LinkError('ERR_LINK_KIND', `'${lower}' is no Ethernet, and nothing else carries a macvtap`, {
      hint: 'Name a NIC of the host, a bond, a VLAN, or a dummy.',
      context,
    })
  }
  if (mtu !== undefined && mtu > link.mtu) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'mtu', `${mtu} is over ${link.mtu}, that of '${lower}'`, {
      hint: `Ask for less, or: ip link set ${lower} mtu ${mtu}`,
      context: { ...context, mtu: link.mtu },
    })
  }
  if (link.mac === mac && mode !== 'passthru') {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'mac', `${mac} is that of '${lower}'`, {
      hint: 'The guest has an address of its own, but in mode passthru.',
      context,
    })
  }
  return link
}

/** The macvtap where it is there as it is to be. @throws {LinkError} `ERR_LINK_TAKEN` where something else has its name */
function findExisting(netlink: RtNetlink, { ifname, mac, mtu, lower, mode }: Wanted, below: Link): Link | undefined {
  const found = netlink.getLink({ ifname })
  if (found === undefined) return undefined
  const differs = [
    found.kind === 'macvtap' ? undefined : `is a ${found.kind ?? 'network device'}`,
    found.macvtap === undefined || found.macvtap.mode === mode ? undefined : `is in mode ${found.macvtap.mode}`,
    found.link === below.index ? undefined : `is not on '${lower}'`,
    found.mac === mac || mode === 'passthru' ? undefined : `has the address ${found.mac}`,
    found.mtu === (mtu ?? found.mtu) ? undefined : `has the MTU ${found.mtu}`,
  ].filter((each) => each !== undefined)
  if (differs.length === 0) return found
  throw new LinkError('ERR_LINK_TAKEN', `there is a '${ifname}' already, which ${differs.join(' and ')}`, {
    hint: `Choose another name, or delete it: ip link delete ${ifname}`,
    context: { ifname, kind: found.kind ?? null },
  })
}

/** That there is a place on the link below: for both the kernel says EBUSY or EINVAL (drivers/net/macvlan.c). */
function checkPlace(netlink: RtNetlink, { lower, mode }: Wanted, below: Link): void {
  const taken = (problem: string, hint: string): LinkError =>
    new LinkError('ERR_LINK_TAKEN', `'${lower}' ${problem}`, { hint, context: { ifname: lower } })
  if (below.master !== undefined) {
    const master = netlink.getLink({ index: below.master })
    const name = master?.ifname ?? `link ${below.master}`
    // A VRF leaves a link its frames.
    if (master?.kind !== 'vrf')
      throw taken(`is in '${name}' already`, `Be on '${name}', or: ip link set ${lower} nomaster`)
  }
  const others = netlink
    .listLinks()
    .filter(({ kind, link }) => link === below.index && /^macv(tap|lan)$/.test(kind ?? ''))
  const [other] = mode === 'passthru' ? others : others.filter(({ macvtap }) => macvtap?.mode === 'passthru')
  if (other === undefined) return
  const hint = `Delete that one (ip link delete ${other.ifname}), or be on another link.`
  throw taken(`has '${other.ifname}' on it already, and a passthru is alone on its link`, hint)
}

function addStep(wanted: Wanted): Step {
  const { ifname, mac, mtu, lower, mode } = wanted
  const of = mtu === undefined ? '' : ` and MTU ${mtu}`
  return netlinkStep(`make macvtap '${ifname}' on '${lower}', in mode ${mode}, with address ${mac}${of}`, (netlink) => {
    const below = findLower(netlink, wanted)
    if (findExisting(netlink, wanted, below) !== undefined) return undefined
    checkPlace(netlink, wanted, below)
    const { index } = addMacvtap(netlink, wanted, below)
    return whileThere(index, (again, { kind }) => {
      if (kind === 'macvtap') again.deleteLink(index)
    })
  })
}

function addMacvtap(netlink: RtNetlink, { ifname, mac, mtu, lower, mode }: Wanted, below: Link): Link {
  try {
    const own = mode === 'passthru' ? {} : { mac }
    return netlink.addLink({
      kind: 'macvtap',
      ifname,
      link: below.index,
      mode,
      ...own,
      ...(mtu !== undefined && { mtu }),
    })
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === 'EBUSY')) throw error
    // netdev_rx_handler_register: a link gives its frames to one taker.
    throw new LinkError('ERR_LINK_TAKEN', `something else takes the frames of '${lower}'`, {
      hint: `It is in a bridge, a bond or a switch: be on that. ip -d link show ${lower}`,
      context: { ifname: lower },
      cause: error,
    })
  }
}

/** A passthru is made with the address of the link below, and changes that one's with its own; the kernel puts it back. */
function macStep({ ifname, mac, lower }: Wanted): Step {
  return netlinkStep(`give '${ifname}', and with it '${lower}', the address ${mac}`, (netlink) => {
    const { index, mac: before } = findLink(netlink, ifname)
    if (before === undefined || before === mac) return undefined
    netlink.setLink(index, { mac })
    return whileThere(index, (again, link) => {
      if (link.mac === mac) again.setLink(index, { mac: before })
    })
  })
}

function multicastStep(ifname: string): Step {
  return netlinkStep(`have '${ifname}' take in all multicast`, (netlink) => {
    const { index, flags } = findLink(netlink, ifname)
    if ((flags & NET_DEVICE_FLAGS.IFF_ALLMULTI) !== 0) return undefined
    netlink.setLink(index, { allmulticast: true })
    return whileThere(index, (again) => again.setLink(index, { allmulticast: false }))
  })
}
