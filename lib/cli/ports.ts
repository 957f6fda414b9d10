// `vhost-net ports`: what is plugged in where.

import { parseArgs } from 'node:util'
import { listPorts, type NetworkPort, type PortNetwork } from '../network/index.ts'
import { assertKnown, withUsage } from './arguments.ts'
import { type Command, UsageError } from './command.ts'

const usage = `Usage: vhost-net ports [options]

Lists taps, macvtaps, and all else that is a port of a Linux bridge or of Open vSwitch: where it is plugged in, who has it
open, and how many packets came from it and went to it.

Options:
  --db REMOTE      the database of Open vSwitch: unix:PATH or tcp:IP:PORT (default unix:/run/openvswitch/db.sock)
  --json           the ports on stdout as one JSON document
  --help           this text

Exit code: 0, 1 where the database of Open vSwitch is there and does not answer, 2 wrong usage.
`

const known = {
  db: { type: 'string' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h' },
} as const

function parse(args: readonly string[]): { db: string | undefined; json: boolean } | undefined {
  assertKnown(args, known, usage)
  const { values, positionals } = parseArgs({ args: [...args], options: known, allowPositionals: true })
  if (values.help) return undefined
  if (positionals.length > 0) throw new UsageError(`what is '${positionals.join(' ')}'?`, usage)
  return { db: values.db, json: values.json }
}

function describe(network: PortNetwork | null): string {
  if (network === null) return '-'
  switch (network.kind) {
    case 'bridge': {
      const vlans = network.vlans.map(({ vid, tagged }) => `${vid}${tagged ? 't' : ''}`)
      const words = [
        ...(vlans.length === 0 ? [] : [`vlan ${vlans.join(' ')}`]),
        ...(network.isolated ? ['isolated'] : []),
      ]
      return [`bridge:${network.bridge}`, ...words].join(', ')
    }
    case 'ovs': {
      const { bridge, ofport, tag, error, owner } = network
      const words = [
        ...(ofport === null ? [] : [`ofport ${ofport}`]),
        ...(tag === null ? [] : [`tag ${tag}`]),
        ...(error === null ? [] : [`error: ${error}`]),
        ...(owner === 'an ended process' ? ['of an ended process'] : []),
      ]
      return [`ovs:${bridge}`, ...words].join(', ')
    }
    case 'macvtap':
      return `macvtap:${network.lower}, ${network.mode}`
    case 'route':
      return `route:${network.addresses.join(' ')}`
  }
}

function row({ ifname, kind, link, network, users, stats }: NetworkPort): string[] {
  const state = link === null ? 'gone' : link.lowerUp ? 'up' : link.up ? 'no carrier' : 'down'
  const counts = stats === null ? ['-', '-'] : [String(stats.rx_packets), String(stats.tx_packets)]
  const who = users.map(({ pid, name }) => `${name}(${pid})`).join(' ')
  return [ifname, kind ?? '-', state, link === null ? '-' : String(link.mtu), ...counts, describe(network), who]
}

/** Columns, each as wide as what is in it. */
function table(ports: readonly NetworkPort[]): string {
  const rows = [['port', 'kind', 'state', 'mtu', 'from it', 'to it', 'plugged into', 'open in'], ...ports.map(row)]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((each) => each[column]!.length)))
  return rows
    .map((each) =>
      each
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export const ports: Command = {
  async run(args) {
    const request = withUsage(usage, () => parse(args))
    if (request === undefined) {
      process.stdout.write(usage)
      return 0
    }
    const { db, json } = request
    const found = await listPorts(db === undefined ? {} : { ovs: { db } })
    process.stdout.write(json ? `${JSON.stringify(found, null, 2)}\n` : `${table(found)}\n`)
    return 0
  },
}
