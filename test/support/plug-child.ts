// Plugs a tap of its own into Open vSwitch and holds it until it is killed: `node plug-child.js IFNAME MAC OPTIONS`, OPTIONS
// in JSON. Prints a line when that is done.

import { Tap } from '../../lib/host/index.ts'
import { type OvsOptions, plug } from '../../lib/network/index.ts'

const [ifname = '', mac = '', options = ''] = process.argv.slice(2)
const tap = Tap.open({ ifname })
const plugged = await plug({ ifname, mac }, { ovs: JSON.parse(options) as OvsOptions })
process.stdout.write(`${JSON.stringify(plugged.inspect())}\n`)
// Nothing else keeps it: neither a tap nor a port needs this process to do anything.
setInterval(() => tap.fd, 1000)
