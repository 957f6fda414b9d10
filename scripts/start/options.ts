// The command line of `npm start`.

import { parseArgs } from 'node:util'
import { UsageError } from '../../lib/cli/command.ts'
import { defaultKernel, isKernelName, type KernelName, kernelNames } from '../lab/kernels.ts'

export interface StartOptions {
  /** Of the guest, and of the lab. */
  kernel: KernelName
  /** How long iperf3 runs each way. */
  seconds: number
  /** The tap's name; `%d` lets the kernel choose a number. */
  ifname: string
  json: boolean
}

const defaults = { seconds: 4, ifname: 'vnt%d' }

export const usage = `Usage: npm start -- [options]

Boots a stock Debian kernel with 4 vCPUs on KVM, with a NIC over virtio-pci whose 4 queue pairs the kernel's vhost-net serves.
The guest gets its address by DHCP, pings, is pinged, has its queue pairs changed amid traffic and runs iperf3 both ways. Then
it is counted, in the guest and in the host's kernel, who had which packets, and whether the sums hold.

Options:
  --kernel NAME    the guest's, ${kernelNames.join(', ')}, and the lab's (default ${defaultKernel})
  --seconds S      how long iperf3 runs each way, 1..3600 (default ${defaults.seconds})
  --ifname NAME    the tap, which is made; %d takes a number (default '${defaults.ifname}')
  --json           the result on stdout as one JSON document (scripts/start/start.schema.json)
  --help           this text

Where this machine lacks KVM, vhost-net, tun or root rights, all of it runs in the lab: in QEMU, which emulates the CPU.
Exit code: 0 all was done and every sum holds, 1 not so, 2 wrong usage, 130 or 143 after a signal; else the lab's own, as
\`npm run lab -- --help\` has them.
`

function parse(args: readonly string[]): StartOptions | undefined {
  const text = { type: 'string' } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      kernel: text,
      seconds: text,
      ifname: text,
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return undefined
  const { kernel = defaultKernel, ifname = defaults.ifname, json } = values
  const seconds = Number(values.seconds ?? defaults.seconds)
  if (!isKernelName(kernel)) throw new UsageError(`--kernel must be one of ${kernelNames.join(', ')}`, usage)
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 3600) {
    throw new UsageError(`--seconds must be a whole number in 1..3600, not '${values.seconds}'`, usage)
  }
  return { kernel, seconds, ifname, json }
}

/** Undefined where only the help is wanted. @throws {UsageError} */
export function parseOptions(args: readonly string[]): StartOptions | undefined {
  try {
    return parse(args)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code.startsWith('ERR_PARSE_ARGS_')) throw new UsageError((error as Error).message, usage, error)
    throw error
  }
}
