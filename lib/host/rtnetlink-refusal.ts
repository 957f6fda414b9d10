// What the kernel says to a request that it refuses, and what helps.

import { getSystemErrorMap } from 'node:util'
import { errnoName, type Hints } from '../binding/index.ts'
import { SystemCallError } from '../errors.ts'
import type { NetlinkOutcome } from './netlink-message.ts'
import type { RtnetlinkRequest } from './rtnetlink-request.ts'

/** By message and errno, or by errno. */
const hints: Hints = {
  EPERM: 'It takes CAP_NET_ADMIN in the user namespace that owns the network namespace.',
  ENODEV: 'The link does not exist, or not any more, in this network namespace.',
  EBUSY: 'Something uses the link: it may have to be down, or out of its bridge, first.',
  EACCES: 'For IPv6: it is switched off on this link (sysctl net.ipv6.conf.<ifname>.disable_ipv6).',
  'RTM_NEWLINK EEXIST': 'A link of this name exists already.',
  'RTM_SETLINK EEXIST': 'A link of this name exists already, here or in the network namespace it is to move to.',
  'RTM_NEWADDR EEXIST': 'The link has this address already.',
  'RTM_NEWNEIGH EEXIST': 'The link has an entry for this address already.',
  'RTM_NEWLINK EOPNOTSUPP': 'The kernel has no driver for this kind of link; modprobe may find it.',
  'RTM_NEWLINK EINVAL': 'The driver may have a narrower range of MTUs (ip -d link: minmtu, maxmtu).',
  'RTM_SETLINK EINVAL':
    'The driver may have a narrower range of MTUs (ip -d link: minmtu, maxmtu); a master is a bridge, bond or vrf.',
  'RTM_DELLINK EOPNOTSUPP': 'Only virtual links can be deleted, and lo is none of them.',
  'RTM_DELADDR EADDRNOTAVAIL': 'The link has no such address with this prefix length.',
  'RTM_NEWROUTE EEXIST': 'There is a route to this prefix already: ip route show.',
  'RTM_NEWROUTE ENETDOWN': 'A route is by a link that is up.',
  'RTM_DELROUTE ESRCH': 'There is no such route.',
  'RTM_NEWQDISC EEXIST': 'A queueing discipline is there already: tc qdisc show.',
  'RTM_NEWQDISC ENOENT':
    'The kernel has no such queueing discipline; modprobe may find it: sch_htb, sch_sfq, sch_ingress.',
  'RTM_NEWTCLASS EEXIST': 'A class of this handle is there already: tc class show.',
  'RTM_NEWTFILTER EEXIST': 'A filter is there already: tc filter show.',
  'RTM_NEWTFILTER ENOENT': 'The kernel has no such filter or action; modprobe may find it: cls_u32, act_police.',
  'RTM_DELQDISC ENOENT': 'There is no such queueing discipline but the default one of the kernel.',
  'RTM_DELNEIGH ENOENT': 'The link has no entry for this address.',
}

/** The error that a request ended with, in the kernel's own words where it has any. */
export function refused(
  { name, subject, context }: RtnetlinkRequest,
  { errno, text }: NetlinkOutcome,
): SystemCallError {
  const code = errnoName(-errno)
  const why = text ?? getSystemErrorMap().get(errno)?.[1]
  const hint = hints[`${name} ${code}`] ?? hints[code]
  const message = `${name} on ${subject}: ${why === undefined ? code : `${code}, ${why}`}`
  return new SystemCallError(code, errno, name, message, { context, ...(hint !== undefined && { hint }) })
}
