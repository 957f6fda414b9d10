// A link taken out of the network that it is in, whoever put it there.

import { LinkError, OvsdbError } from '../errors.ts'
import { checkIfname } from '../host/ifname.ts'
import type { Link } from '../host/rtnetlink.ts'
import { checkObject } from '../options.ts'
import { Applied } from './apply.ts'
import { findLink, netlinkStep, whileThere, withNetlink } from './link-steps.ts'
import { unplugOvs } from './ovs.ts'
import type { OvsdbOptions } from './ovsdb/options.ts'
import type { Step } from './step.ts'

export interface UnplugOptions {
  /** Where the database of Open vSwitch is, if the link is a port of it. */
  readonly ovs?: OvsdbOptions
  /** Changes nothing. Default false. */
  readonly dryRun?: boolean
}

/**
 * Takes a link out of its bridge or switch, or deletes it where it is a macvtap, which is nothing without its network. A tap
 * stays, with the addresses and limits that it has. Of Open vSwitch only ports are removed that this package has made; those
 * whose link is gone, too.
 * @returns what was done, or would be; nothing where the link is in no network
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 * @throws {LinkError} `ERR_LINK_ABSENT`: there is no such link, nor a port of that name
 * @throws {PlugError} with the code of what failed, such as `ERR_OVS_TAKEN`: the port is somebody else's
 */
export async function unplug(ifname: string, options: UnplugOptions = {}): Promise<string[]> {
  const { ovs = {}, dryRun = false } = checkObject(options, ['ovs', 'dryRun']) as UnplugOptions
  const steps = planUnplug(checkIfname(ifname), ovs)
  if (!dryRun) await Applied.of(steps)
  return steps.map(({ text }) => text)
}

function planUnplug(ifname: string, ovs: OvsdbOptions): Step[] {
  const { link, master } = withNetlink((netlink) => {
    const link = netlink.getLink({ ifname })
    return { link, master: link?.master === undefined ? undefined : netlink.getLink({ index: link.master }) }
  })
  if (link?.kind === 'macvtap') return [deletion(link)]
  if (link === undefined || master?.kind === 'openvswitch') return [portRemoval(ifname, ovs, link === undefined)]
  return master === undefined ? [] : [release(link, master)]
}

function deletion({ ifname }: Link): Step {
  return netlinkStep(`delete macvtap '${ifname}'`, (netlink) => {
    netlink.deleteLink(findLink(netlink, ifname).index)
    return undefined
  })
}

function release({ ifname }: Link, master: Link): Step {
  return netlinkStep(`take '${ifname}' out of ${master.kind ?? 'link'} '${master.ifname}'`, (netlink) => {
    const { index, master: found } = findLink(netlink, ifname)
    if (found !== master.index) return undefined
    netlink.setLink(index, { master: null })
    return whileThere(index, (again) => again.setLink(index, { master: master.index }))
  })
}

/** @param gone whether there is no link of that name: what is left of it may be a port. */
function portRemoval(ifname: string, ovs: OvsdbOptions, gone: boolean): Step {
  const absent = (cause?: unknown): LinkError =>
    new LinkError(
      'ERR_LINK_ABSENT',
      `there is no link '${ifname}' in this network namespace, nor a port of that name`,
      {
        hint: 'vhost-net ports shows those there are.',
        context: { ifname },
        cause,
      },
    )
  return {
    text: `remove port '${ifname}' from Open vSwitch`,
    async apply() {
      try {
        if (!(await unplugOvs(ifname, ovs))) throw absent()
      } catch (error) {
        // Without a link and a switch there is just nothing.
        throw gone && error instanceof OvsdbError && error.code === 'ERR_OVSDB_UNREACHABLE' ? absent(error) : error
      }
      return undefined
    },
  }
}
