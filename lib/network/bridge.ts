// A link as a port of a Linux bridge: what `ip link set … master`, `bridge link` and `bridge vlan` would do.

import { InvalidOptionError, LinkError } from '../errors.ts'
import type { BridgeVlan, Link, NewBridgeVlan, RtNetlink } from '../host/rtnetlink.ts'
import { Teardown } from '../teardown.ts'
import { type BridgeOptions, checkBridgeOptions, describeVlans, vlansOf } from './bridge-options.ts'
import { findLink, mtuStep, netlinkStep, tapMacStep, upStep, whileThere, withNetlink } from './link-steps.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import type { Step } from './step.ts'

export type { BridgeOptions, BridgeVlanOptions } from './bridge-options.ts'

/**
 * The steps that make a link a port of a bridge. Without `mtu` the link gets the bridge's; with a lower
 * one than that, a bridge whose MTU nobody has set follows, as the kernel has it.
 *
 * Checks what can be checked now; the link itself may come later.
 * @throws {InvalidOptionError} `ERR_OPTION_*`; `ERR_OPTION_CONFLICT`: the MTU is over the bridge's, or the bridge does not
 *   filter VLANs
 * @throws {LinkError} `ERR_LINK_ABSENT`: no such bridge. `ERR_LINK_KIND`: it is none. `ERR_LINK_TAKEN`: the link is in
 *   another one
 */
export async function planBridge(link: PluggedLink, options: BridgeOptions): Promise<Step[]> {
  const { ifname, mac, mtu } = checkLink(link)
  const { bridge, isolated, vlan } = checkBridgeOptions(options)
  withNetlink((netlink) => {
    const found = checkBridge(netlink, bridge, mtu)
    if (vlan !== undefined) checkFiltering(found)
    const port = netlink.getLink({ ifname })
    if (port !== undefined) checkPort(netlink, port, found)
  })
  const mtuText = `set the MTU of '${ifname}' to ${mtu ?? `that of bridge '${bridge}'`}`
  const steps = [
    tapMacStep(ifname, mac),
    mtuStep(ifname, mtuText, (netlink) => mtu ?? checkBridge(netlink, bridge).mtu),
    portStep(ifname, bridge),
  ]
  if (isolated !== undefined) steps.push(isolationStep(ifname, bridge, isolated))
  if (vlan !== undefined) {
    const text = `put '${ifname}' of bridge '${bridge}' into ${describeVlans(vlan)}, and no other`
    steps.push(vlanStep(ifname, bridge, text, vlansOf(vlan)))
  }
  return [...steps, upStep(ifname)]
}

/** The bridge of that name. */
function checkBridge(netlink: RtNetlink, ifname: string, mtu?: number): Link {
  const link = findLink(netlink, ifname, 'bridge')
  if (link.kind !== 'bridge') {
    const isOvs = link.kind === 'openvswitch'
    const what = isOvs ? 'a bridge of Open vSwitch' : `a ${link.kind ?? 'network device'}`
    throw new LinkError('ERR_LINK_KIND', `'${ifname}' is ${what}, not a Linux bridge`, {
      hint: isOvs ? `Plug into it as { ovs: { bridge: '${ifname}' } }.` : 'ip link show type bridge lists bridges.',
      context: { ifname, kind: link.kind ?? null },
    })
  }
  if (mtu !== undefined && mtu > link.mtu) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'mtu', `${mtu} is over ${link.mtu}, that of '${ifname}'`, {
      hint: `Ask for less, or set the bridge and all its ports: ip link set ${ifname} mtu ${mtu}`,
      context: { ifname, mtu: link.mtu },
    })
  }
  return link
}

function checkFiltering({ ifname, bridge }: Link): void {
  if (bridge?.vlan_filtering) return
  throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'vlan', `bridge '${ifname}' does not filter VLANs`, {
    hint: `ip link set ${ifname} type bridge vlan_filtering 1; it keeps apart what all its ports have passed on so far.`,
    context: { ifname },
  })
}

/** That the kernel may put it there: it would take it out of another bridge without a word (do_set_master). */
function checkPort(netlink: RtNetlink, { ifname, master }: Link, bridge: Link): void {
  if (master === undefined || master === bridge.index) return
  const other = netlink.getLink({ index: master })?.ifname ?? `link ${master}`
  throw new LinkError('ERR_LINK_TAKEN', `'${ifname}' is in '${other}' already`, {
    hint: `Take it out first: ip link set ${ifname} nomaster; of Open vSwitch: ovs-vsctl del-port ${ifname}`,
    context: { ifname, master: other },
  })
}

function portStep(ifname: string, bridge: string): Step {
  return netlinkStep(`put '${ifname}' into bridge '${bridge}'`, (netlink) => {
    const found = checkBridge(netlink, bridge)
    const port = findLink(netlink, ifname)
    checkPort(netlink, port, found)
    if (port.master === found.index) return undefined
    netlink.setLink(port.index, { master: found.index })
    return whileThere(port.index, (again, { master }) => {
      if (master === found.index) again.setLink(port.index, { master: null })
    })
  })
}

function isolationStep(ifname: string, bridge: string, isolated: boolean): Step {
  const text = `${isolated ? 'isolate' : 'do not isolate'} '${ifname}' from the isolated ports of bridge '${bridge}'`
  return netlinkStep(text, (netlink) => {
    const { index, master, bridge_port: port } = findLink(netlink, ifname)
    if (port?.isolated === isolated) return undefined
    netlink.setBridgePort(index, { isolated })
    return whileThere(index, (again, link) => {
      if (link.master === master) again.setBridgePort(index, { isolated: !isolated })
    })
  })
}

function vlanStep(ifname: string, bridge: string, text: string, wanted: readonly NewBridgeVlan[]): Step {
  return netlinkStep(text, (netlink) => {
    checkFiltering(checkBridge(netlink, bridge))
    const { index, master } = findLink(netlink, ifname)
    const before = netlink.listBridgeVlans(index)
    const undo = new Teardown()
    undo.add(() => setVlans(netlink, index, before))
    try {
      if (!setVlans(netlink, index, wanted)) return undefined
    } catch (error) {
      throw undo.unwind(error)
    }
    return whileThere(index, (again, link) => {
      if (link.master === master) setVlans(again, index, before)
    })
  })
}

/** Has a port be in these VLANs and no other. Returns whether it was not so before. */
function setVlans(netlink: RtNetlink, index: number, wanted: readonly NewBridgeVlan[]): boolean {
  const found = netlink.listBridgeVlans(index)
  const isThere = ({ vid, pvid = false, untagged = false }: NewBridgeVlan): boolean =>
    found.some((each: BridgeVlan) => each.vid === vid && each.pvid === pvid && each.untagged === untagged)
  const missing = wanted.filter((vlan) => !isThere(vlan))
  const surplus = found.flatMap(({ vid }) => (wanted.some((vlan) => vlan.vid === vid) ? [] : [vid]))
  netlink.addBridgeVlans(index, missing)
  netlink.deleteBridgeVlans(index, surplus)
  return missing.length + surplus.length > 0
}
