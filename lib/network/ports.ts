// What is plugged in where: links of the kernel, with what Open vSwitch knows of its ports.

import { OvsdbError } from '../errors.ts'
import { type Link, type LinkAddress, type LinkStats, RtNetlink } from '../host/rtnetlink.ts'
import { listOvsPorts, type OvsPort } from './ovs.ts'
import type { OvsdbOptions } from './ovsdb/options.ts'
import { type TapUser, tapUsers } from './tap-users.ts'

/** The network that a link is in; JSON-safe. */
export type PortNetwork =
  | { kind: 'bridge'; bridge: string; isolated: boolean; vlans: { vid: number; tagged: boolean; native: boolean }[] }
  | {
      kind: 'ovs'
      bridge: string
      ofport: number | null
      tag: number | null
      error: string | null
      externalIds: Readonly<Record<string, string>>
      /** Whose the port is, where this package made it. */
      owner: NonNullable<OvsPort['owner']> | null
    }
  | { kind: 'macvtap'; lower: string; mode: string | null }
  | { kind: 'route'; addresses: string[] }

/** A tap or macvtap of this host, or another port of a bridge or switch; JSON-safe. */
export interface NetworkPort {
  ifname: string
  /** The kernel's word for what it is: `'tap'`, `'macvtap'`, `'veth'`, …; null of hardware, and of what is gone. */
  kind: string | null
  /** Null where Open vSwitch has a port whose link is gone, or elsewhere. */
  link: Pick<Link, 'index' | 'up' | 'lowerUp' | 'mtu' | 'mac'> | null
  /** Null: it is in none. */
  network: PortNetwork | null
  /** Processes that have queues of the tap open, as far as this process can see them. */
  users: TapUser[]
  /** Since the link was made: what a guest sends is received there. */
  stats: LinkStats | null
}

/**
 * What is plugged in where, by name. Open vSwitch is asked where there is one; where none answers, its ports are told as the
 * kernel has them.
 * @throws {OvsdbError} where the database is there and does not answer, or one is named that is not there
 */
export async function listPorts(options: { ovs?: OvsdbOptions } = {}): Promise<NetworkPort[]> {
  const ovs = await ovsPorts(options.ovs)
  const users = tapUsers()
  const netlink = RtNetlink.open()
  try {
    const links = netlink.listLinks()
    const byIndex = new Map(links.map((link) => [link.index, link]))
    const found = links.flatMap((link) => {
      const port = ovs.get(link.ifname)
      ovs.delete(link.ifname)
      const network = networkOf(netlink, link, byIndex, port)
      const isTap = link.tun?.type === 'tap' || link.kind === 'macvtap'
      if (!isTap && (network === null || network.kind === 'route')) return []
      return [portOf(link, network, users.get(link.ifname) ?? [])]
    })
    const gone = [...ovs.values()].map((port): NetworkPort => {
      return { ifname: port.ifname, kind: null, link: null, network: ovsNetwork(port), users: [], stats: null }
    })
    return [...found, ...gone].sort((a, b) => a.ifname.localeCompare(b.ifname, 'en', { numeric: true }))
  } finally {
    netlink.close()
  }
}

async function ovsPorts(options: OvsdbOptions | undefined): Promise<Map<string, OvsPort>> {
  try {
    return new Map((await listOvsPorts(options)).map((port) => [port.ifname, port]))
  } catch (error) {
    const none = error instanceof OvsdbError && error.code === 'ERR_OVSDB_UNREACHABLE' && options?.db === undefined
    if (none) return new Map()
    throw error
  }
}

function portOf(link: Link, network: PortNetwork | null, users: TapUser[]): NetworkPort {
  const { ifname, index, up, lowerUp, mtu, mac, stats, kind } = link
  return {
    ifname,
    kind: link.tun?.type ?? kind ?? null,
    link: { index, up, lowerUp, mtu, ...(mac === undefined ? {} : { mac }) },
    network,
    users,
    stats,
  }
}

function networkOf(
  netlink: RtNetlink,
  link: Link,
  byIndex: ReadonlyMap<number, Link>,
  ovs: OvsPort | undefined,
): PortNetwork | null {
  if (link.kind === 'macvtap') {
    const lower = link.link === undefined ? undefined : byIndex.get(link.link)?.ifname
    return { kind: 'macvtap', lower: lower ?? `link ${link.link ?? 0}`, mode: link.macvtap?.mode ?? null }
  }
  if (ovs !== undefined) return ovsNetwork(ovs)
  const master = link.master === undefined ? undefined : byIndex.get(link.master)
  if (master?.kind === 'bridge') return bridgeNetwork(netlink, link, master)
  if (master?.kind === 'openvswitch') return unknownOvs
  const addresses = netlink.listAddresses(link.index).filter(isGlobal)
  if (addresses.length === 0) return null
  return { kind: 'route', addresses: addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`) }
}

/** RT_SCOPE_UNIVERSE: the rest are addresses that links give themselves. */
const isGlobal = ({ scope }: LinkAddress): boolean => scope === 0

function bridgeNetwork(netlink: RtNetlink, link: Link, master: Link): PortNetwork {
  const vlans = master.bridge?.vlan_filtering ? netlink.listBridgeVlans(link.index) : []
  return {
    kind: 'bridge',
    bridge: master.ifname,
    isolated: link.bridge_port?.isolated ?? false,
    vlans: vlans.map(({ vid, pvid, untagged }) => ({ vid, tagged: !untagged, native: pvid })),
  }
}

/** Of another process's database, or one that does not answer. */
const unknownOvs: PortNetwork = {
  kind: 'ovs',
  bridge: '',
  ofport: null,
  tag: null,
  error: null,
  externalIds: {},
  owner: null,
}

function ovsNetwork({ bridge, ofport, tag, error, externalIds, owner }: OvsPort): PortNetwork {
  return {
    kind: 'ovs',
    bridge,
    ofport: ofport ?? null,
    tag: tag ?? null,
    error: error ?? null,
    externalIds,
    owner: owner ?? null,
  }
}
