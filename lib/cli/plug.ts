// `vhost-net plug`: a tap that somebody made, plugged in for as long as it exists.

import { parseArgs } from 'node:util'
import { parsePlug } from '../interop/index.ts'
import { type BandwidthOptions, plug as plugIn, type Where } from '../network/index.ts'
import { assertKnown, withUsage } from './arguments.ts'
import { type Command, UsageError } from './command.ts'
import { interruptible } from './interrupt.ts'

const usage = `Usage: vhost-net plug IFNAME WHERE --mac MAC [options]

Plugs a tap, or another link, into a network, and leaves it there. What is so already is not touched; what fails half-way is
taken back. Needs CAP_NET_ADMIN; for Open vSwitch access to its database.

WHERE is one of
  bridge:BRIDGE[,isolated=on][,vlan=VID][,trunk=VID:VID:…][,native=tagged|untagged]
                   a Linux bridge; VLANs where it filters them: those of trunk come tagged, vlan is the native one
  ovs:BRIDGE[,iface-id=UUID][,vm-id=UUID][,port-profile=NAME][,tag=VID][,trunks=VID:VID:…][,vlan_mode=MODE]
     [,ingress_policing_rate=KBIT/S][,ingress_policing_burst=KBIT][,db=unix:PATH|tcp:IP:PORT][,ovn=on][,persistent=off]
                   Open vSwitch, in its own words: ovs-vswitchd.conf.db(5); ovn waits until OVN has bound iface-id. The port
                   is persistent, so that it stays when this command has ended
  macvtap:LOWER[,mode=bridge|vepa|private|passthru]
                   IFNAME is made as a macvtap on a link of the host; a NIC is opened over it then
  route[,address=IP/LENGTH]…[,route=IP[/LENGTH]]…[,proxy_arp=on]
                   the host's addresses on it, and what else the guest has: the host routes
and, for bridge and route, what may go to the guest and come from it, in kB/s, with a burst in KiB:
  [,inbound=AVERAGE[:PEAK[:BURST]]][,outbound=AVERAGE[::BURST]]

Options:
  --mac MAC        the guest's address
  --mtu N          of the link; default that of a Linux bridge, or of LOWER, else as it is
  --dry-run        changes nothing, and says what would be done
  --json           the steps on stdout as one JSON document
  --help           this text

Exit code: 0 it is plugged in, 1 it is not, and nothing was changed; 2 wrong usage, 130 or 143 after a signal.
`

const text = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const
const known = { mac: text, mtu: text, 'dry-run': flag, json: flag, help: { type: 'boolean', short: 'h' } } as const

interface PlugRequest {
  ifname: string
  mac: string
  mtu: number | undefined
  where: Where
  bandwidth: BandwidthOptions | undefined
  dryRun: boolean
  json: boolean
}

function parse(args: readonly string[]): PlugRequest | undefined {
  assertKnown(args, known, usage)
  const { values, positionals } = parseArgs({ args: [...args], options: known, allowPositionals: true })
  if (values.help) return undefined
  const [ifname, words, ...others] = positionals
  if (ifname === undefined || words === undefined) throw new UsageError('IFNAME and WHERE are needed', usage)
  if (others.length > 0) throw new UsageError(`what is '${others.join(' ')}'?`, usage)
  if (values.mac === undefined) throw new UsageError('--mac is missing: the address of the guest', usage)
  const mtu = values.mtu === undefined ? undefined : Number(values.mtu)
  const { netdev, where, bandwidth } = parsePlug(words)
  if (netdev !== undefined) throw new UsageError(`netdev is a word of vhost-net run, not of this command`, usage)
  const { ovs } = where
  const lasting = ovs === undefined ? where : { ovs: { persistent: true, ...ovs } }
  const { 'dry-run': dryRun, json } = values
  return {
    ifname,
    mac: values.mac,
    mtu,
    where: lasting as unknown as Where,
    bandwidth: bandwidth as BandwidthOptions | undefined,
    dryRun,
    json,
  }
}

async function carryOut({ ifname, mac, mtu, where, bandwidth, dryRun, json }: PlugRequest): Promise<number> {
  const scope = new AbortController()
  const link = { ifname, mac, mtu }
  const { signal } = scope
  const steps = await interruptible(scope, async () => {
    if (dryRun) return (await plugIn(link, where, { bandwidth, dryRun })).map((step) => ({ text: step }))
    return (await plugIn(link, where, { bandwidth, signal })).inspect().steps
  })
  const line = (step: { text: string; changed?: boolean }): string =>
    step.changed === undefined ? step.text : `${step.changed ? 'done     ' : 'is so    '}${step.text}`
  process.stdout.write(json ? `${JSON.stringify({ ifname, steps }, null, 2)}\n` : `${steps.map(line).join('\n')}\n`)
  return 0
}

export const plug: Command = {
  async run(args) {
    const request = withUsage(usage, () => parse(args))
    if (request !== undefined) return carryOut(request)
    process.stdout.write(usage)
    return 0
  },
}
