// `vhost-net unplug`: a link taken out of the network that it is in.

import { parseArgs } from 'node:util'
import { unplug as takeOut } from '../network/index.ts'
import { assertKnown, withUsage } from './arguments.ts'
import { type Command, UsageError } from './command.ts'

const usage = `Usage: vhost-net unplug IFNAME [options]

Takes a link out of its Linux bridge or out of Open vSwitch, from which only ports are removed that vhost-net has made; those
whose link is gone, too. The tap itself stays.

Options:
  --db REMOTE      the database of Open vSwitch: unix:PATH or tcp:IP:PORT (default unix:/run/openvswitch/db.sock)
  --dry-run        changes nothing, and says what would be done
  --json           the steps on stdout as one JSON document
  --help           this text

Exit code: 0 it is in no network now, 1 it could not be taken out, 2 wrong usage.
`

const flag = { type: 'boolean', default: false } as const
const known = { db: { type: 'string' }, 'dry-run': flag, json: flag, help: { type: 'boolean', short: 'h' } } as const

interface UnplugRequest {
  ifname: string
  db: string | undefined
  dryRun: boolean
  json: boolean
}

function parse(args: readonly string[]): UnplugRequest | undefined {
  assertKnown(args, known, usage)
  const { values, positionals } = parseArgs({ args: [...args], options: known, allowPositionals: true })
  if (values.help) return undefined
  const [ifname, ...others] = positionals
  if (ifname === undefined || others.length > 0) throw new UsageError('one IFNAME is needed', usage)
  return { ifname, db: values.db, dryRun: values['dry-run'], json: values.json }
}

export const unplug: Command = {
  async run(args) {
    const request = withUsage(usage, () => parse(args))
    if (request === undefined) {
      process.stdout.write(usage)
      return 0
    }
    const { ifname, db, dryRun, json } = request
    const steps = await takeOut(ifname, { dryRun, ...(db === undefined ? {} : { ovs: { db } }) })
    const lines = steps.length === 0 ? [`'${ifname}' is in no network`] : steps
    process.stdout.write(json ? `${JSON.stringify({ ifname, steps }, null, 2)}\n` : `${lines.join('\n')}\n`)
    return 0
  },
}
