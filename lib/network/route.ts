// A tap without a switch: the host routes between it and its other links, as `ip address` and `ip route` would set it up.

import { parseIp } from '../address.ts'
import { InvalidOptionError, LinkError } from '../errors.ts'
import { readKernelFile, writeKernelFile } from '../host/kernel-file.ts'
import type { Prefix, RtNetlink } from '../host/rtnetlink.ts'
import { checkHostBits } from '../host/rtnetlink-route.ts'
import { checkBoolean, checkInteger, checkObject, checkString } from '../options.ts'
import { findLink, mtuStep, netlinkStep, tapMacStep, upStep, whileThere, withNetlink } from './link-steps.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import type { Step } from './step.ts'

export interface RouteOptions {
  /**
   * The host's own addresses on the tap, each with the length of its prefix: `192.0.2.1/24`, `2001:db8::1/64`. The guest's
   * gateway is one of them; all of their prefixes are on the tap, the guest's address, too, where it is of one.
   */
  readonly addresses?: readonly string[]
  /** What else the guest has: `198.51.100.7`, `2001:db8:1::/64`. */
  readonly routes?: readonly string[]
  /**
   * Whether the host answers the guest's ARP for what it has a route to elsewhere (`net.ipv4.conf.*.proxy_arp`): the guest
   * may then take the host for its whole network. Default what the tap is set to. IPv4 only.
   */
  readonly proxyArp?: boolean
}

/**
 * The steps that give the host addresses on a tap, and routes to what the guest has behind it.
 *
 * What it does not do, and `libvirtd` does or leaves to you for `<forward mode='route'/>`: it switches no forwarding on
 * (`sysctl net.ipv4.ip_forward=1`, `net.ipv6.conf.all.forwarding=1`), without which the guest reaches only the host; it
 * translates no addresses, opens no firewall, answers no DHCP and sends no router advertisements; and it tells no other host
 * where the guest is: those need a route by way of this one, or `proxy_arp` on the link towards them.
 *
 * The tap gets `fe` as its address's first byte, as for a bridge, so that the gateway has the same one each time.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 * @throws {LinkError} `ERR_LINK_TAKEN`: there is a route to one of those by another link
 */
export async function planRoute(link: PluggedLink, options: RouteOptions): Promise<Step[]> {
  const { ifname, mac, mtu } = checkLink(link)
  const { addresses, routes, proxyArp } = checkRouteOptions(options)
  withNetlink((netlink) => {
    const index = netlink.getLink({ ifname })?.index
    for (const route of routes) findRoute(netlink, index, route)
  })
  return [
    { ...tapMacStep(ifname, mac), text: `give '${ifname}' an address that goes by the guest's, if it is a tap` },
    ...(mtu === undefined ? [] : [mtuStep(ifname, `set the MTU of '${ifname}' to ${mtu}`, () => mtu)]),
    ...addresses.map((address) => addressStep(ifname, address)),
    ...(proxyArp === undefined ? [] : [proxyArpStep(ifname, proxyArp)]),
    upStep(ifname),
    // A route is by a link that is up.
    ...routes.map((route) => routeStep(ifname, route)),
  ]
}

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkRouteOptions(value: unknown): {
  addresses: Prefix[]
  routes: Prefix[]
  proxyArp: boolean | undefined
} {
  const given = checkObject(value, ['addresses', 'routes', 'proxyArp'])
  const addresses = checkPrefixes(given.addresses, 'addresses', (prefix, option) => {
    if (prefix.prefixLength !== undefined) return { ...prefix, prefixLength: prefix.prefixLength }
    const problem = `${prefix.address} has no length of its prefix`
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem, { hint: `Such as ${prefix.address}/24.` })
  })
  const routes = checkPrefixes(given.routes, 'routes', ({ address, prefixLength }, option) => {
    const bytes = parseIp(address, option)
    const whole = { address, prefixLength: prefixLength ?? 8 * bytes.length }
    checkHostBits(bytes, whole.prefixLength, option)
    return whole
  })
  if (addresses.length + routes.length === 0) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'routes', 'there are neither addresses nor routes')
  }
  const { proxyArp } = given
  return { addresses, routes, proxyArp: proxyArp === undefined ? undefined : checkBoolean(proxyArp, 'proxyArp') }
}

type GivenPrefix = Pick<Prefix, 'address'> & { prefixLength: number | undefined }

function checkPrefixes(
  value: unknown,
  option: string,
  complete: (given: GivenPrefix, option: string) => Prefix,
): Prefix[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be an array of addresses, not ${typeof value}`)
  }
  return value.map((each, i) => {
    const at = `${option}[${i}]`
    const [address = '', length, ...more] = checkString(each, at).split('/')
    const most = 8 * parseIp(address, at).length
    if (more.length > 0 || (length !== undefined && !/^\d+$/.test(length))) {
      throw new InvalidOptionError('ERR_OPTION_RANGE', at, `'${each}' is no address with the length of a prefix`)
    }
    const prefixLength = length === undefined ? undefined : checkInteger(Number(length), at, 0, most)
    return complete({ address, prefixLength }, at)
  })
}

const describe = ({ address, prefixLength }: Prefix): string => `${address}/${prefixLength}`

const isSame = (a: Prefix, b: Prefix): boolean =>
  a.prefixLength === b.prefixLength && Buffer.from(parseIp(a.address, 'address')).equals(parseIp(b.address, 'address'))

function addressStep(ifname: string, address: Prefix): Step {
  return netlinkStep(`give the host the address ${describe(address)} on '${ifname}'`, (netlink) => {
    const { index } = findLink(netlink, ifname)
    const hasIt = (of: RtNetlink): boolean => of.listAddresses(index).some((each) => isSame(each, address))
    if (hasIt(netlink)) return undefined
    netlink.addAddress(index, address)
    return whileThere(index, (again) => {
      if (hasIt(again)) again.deleteAddress(index, address)
    })
  })
}

/** Whether the route is there by the link. @throws {LinkError} `ERR_LINK_TAKEN` where it is by another one */
function findRoute(netlink: RtNetlink, index: number | undefined, route: Prefix): boolean {
  const found = netlink.listRoutes().filter((each) => isSame(each, route))
  if (found.some((each) => each.index === index)) return true
  const [other] = found
  if (other === undefined) return false
  const by = netlink.getLink({ index: other.index })?.ifname ?? `link ${other.index}`
  throw new LinkError('ERR_LINK_TAKEN', `there is a route to ${describe(route)} already, by '${by}'`, {
    hint: `Take it away first: ip route delete ${describe(route)} dev ${by}`,
    context: { ifname: by, route: describe(route) },
  })
}

function routeStep(ifname: string, route: Prefix): Step {
  return netlinkStep(`route ${describe(route)} to '${ifname}'`, (netlink) => {
    const { index } = findLink(netlink, ifname)
    if (findRoute(netlink, index, route)) return undefined
    netlink.addRoute(index, route)
    return whileThere(index, (again) => {
      const isThere = again.listRoutes().some((each) => each.index === index && isSame(each, route))
      if (isThere) again.deleteRoute(index, route)
    })
  })
}

function proxyArpStep(ifname: string, proxyArp: boolean): Step {
  const [wanted, not] = proxyArp ? ['1', ''] : ['0', ' not']
  const file = `/proc/sys/net/ipv4/conf/${ifname}/proxy_arp`
  return netlinkStep(`have the host${not} answer ARP on '${ifname}' for what is elsewhere`, (netlink) => {
    const { index } = findLink(netlink, ifname)
    const before = readKernelFile(file).trim()
    if (before === wanted) return undefined
    writeKernelFile(file, wanted)
    return whileThere(index, (_, link) => {
      // It is found by its name, which somebody may have changed.
      const now = `/proc/sys/net/ipv4/conf/${link.ifname}/proxy_arp`
      if (readKernelFile(now).trim() === wanted) writeKernelFile(now, before)
    })
  })
}
