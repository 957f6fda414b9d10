// The command line of `vhost-net loop`.

import { parseArgs } from 'node:util'
import { InvalidOptionError } from '../../errors.ts'
import { checkIfname } from '../../host/ifname.ts'
import { UsageError } from '../command.ts'
import { MAX_MTU, MIN_ECHO_PAYLOAD, MIN_MTU, payloadRoom } from './frames.ts'
import { type Cidr, formatCidr, parseCidr, roomBeside } from './subnet.ts'

export interface LoopOptions {
  pairs: number
  /** How long bulk traffic flows. */
  seconds: number
  /** The tap's name; `%d` lets the kernel choose a number. */
  ifname: string
  mtu: number
  /** Of each echo request in the bulk traffic. */
  payloadBytes: number
  /** The tap's address; undefined: on a private network that this host does not use. */
  address: Cidr | undefined
  json: boolean
}

const defaults = { pairs: 4, seconds: 3, ifname: 'vnt%d', mtu: 1500, size: 1400 }

export const usage = `Usage: vhost-net loop [options]

Moves real frames through the kernel's vhost-net between a driver in this process and a tap: resolves and pings the
host from every queue pair, floods it with echo requests which its own network stack answers, and then compares what
the rings and the kernel have counted. Needs root, /dev/vhost-net and /dev/net/tun.

Options:
  --pairs N        queue pairs, 1..256 (default ${defaults.pairs})
  --seconds S      how long to send, 0.1..3600 (default ${defaults.seconds})
  --ifname NAME    the tap: made, or used where it exists; %d takes a number (default '${defaults.ifname}')
  --address CIDR   the tap's IPv4 address, as 10.9.0.1/24 (default: on a private network not in use here)
  --mtu BYTES      of the tap, ${MIN_MTU}..${MAX_MTU} (default ${defaults.mtu})
  --size BYTES     payload of an echo request, ${MIN_ECHO_PAYLOAD}..mtu-28 (default ${defaults.size}, or what fits)
  --json           the result on stdout as one JSON document (lib/cli/loop.schema.json)
  --help           this text

Exit code: 0 everything arrived intact and every count agrees, 1 not so, 2 wrong usage, 130 or 143 after a signal.
`

/** A plain decimal number: no exponent, no hexadecimal. */
function number(text: string, option: string, least: number, most: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be a number in ${least}..${most}, not '${text}'`)
}

function integer(text: string, option: string, least: number, most: number): number {
  const value = number(text, option, least, most)
  if (Number.isInteger(value)) return value
  throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be an integer in ${least}..${most}, not '${text}'`)
}

function parse(args: readonly string[]): LoopOptions | undefined {
  const text = { type: 'string' } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      pairs: text,
      seconds: text,
      ifname: text,
      address: text,
      mtu: text,
      size: text,
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return undefined
  const pairs = integer(values.pairs ?? String(defaults.pairs), '--pairs', 1, 256)
  const mtu = integer(values.mtu ?? String(defaults.mtu), '--mtu', MIN_MTU, MAX_MTU)
  const room = payloadRoom(mtu)
  const address = values.address === undefined ? undefined : parseCidr(values.address, '--address')
  if (address !== undefined && roomBeside(address) < pairs) {
    const problem = `${formatCidr(address)} has room for ${roomBeside(address)} queue pairs beside it, not ${pairs}`
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', '--address', problem)
  }
  return {
    pairs,
    seconds: number(values.seconds ?? String(defaults.seconds), '--seconds', 0.1, 3600),
    ifname: checkIfname(values.ifname ?? defaults.ifname, '--ifname', { pattern: true }),
    mtu,
    payloadBytes: integer(values.size ?? String(Math.min(defaults.size, room)), '--size', MIN_ECHO_PAYLOAD, room),
    address,
    json: values.json,
  }
}

/** Undefined where only the help is wanted. @throws {UsageError} naming the option */
export function parseOptions(args: readonly string[]): LoopOptions | undefined {
  try {
    return parse(args)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (error instanceof InvalidOptionError || code.startsWith('ERR_PARSE_ARGS_')) {
      throw new UsageError((error as Error).message, usage, error)
    }
    throw error
  }
}
