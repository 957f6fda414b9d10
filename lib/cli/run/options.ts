// The command line of `vhost-net run`.

import { parseArgs } from 'node:util'
import { parseMemory, parseNics, parseSmp, type QemuNic } from '../../interop/index.ts'
import type { VmMemoryOptions } from '../../vmm/index.ts'
import { assertKnown, withUsage } from '../arguments.ts'
import { UsageError } from '../command.ts'
import { EXIT_CODES } from './exit-codes.ts'

export interface RunOptions {
  kernel: string
  initrd: string | undefined
  append: string
  smp: number
  memory: VmMemoryOptions
  nics: readonly QemuNic[]
  json: boolean
}

const defaults = { append: 'console=ttyS0', smp: '1', memory: '256M' }

export const usage = `Usage: vhost-net run --kernel FILE [options]

Boots a guest under KVM, its NICs on the kernel's vhost-net, and connects this terminal with its serial port. Ctrl-A x
leaves it, Ctrl-A twice is one for the guest. Needs /dev/kvm; with a NIC /dev/vhost-net and /dev/net/tun too.

Options:
  --kernel FILE    vmlinuz of a distribution (bzImage), or vmlinux with a PVH entry
  --initrd FILE    its initial RAM disk
  --append TEXT    its command line (default '${defaults.append}')
  --smp N          processors, 1..64: cores of one socket (default ${defaults.smp})
  --memory SIZE[,share=on][,hugetlb=on[,hugetlbsize=2M|1G]][,prealloc=on]
                   512M, 2G; MiB without a suffix (default ${defaults.memory})
  --netdev tap,id=ID[,ifname=NAME][,br=BRIDGE][,queues=N|per-vcpu][,sndbuf=SIZE][,poll-us=N][,fds=…][,vhostfds=…]
                   a tap, made where it does not exist, and then switched on; a queue pair for each processor by default;
                   br is a Linux bridge to plug it into
  --plug WHERE[,netdev=ID]
                   where the tap is plugged in while the guest runs: bridge:br0,vlan=7, ovs:br-int,iface-id=UUID,tag=7,
                   macvtap:eth0, or route,address=192.0.2.1/24; \`vhost-net plug --help\` has all that can be said. A
                   macvtap is made under the ifname of its netdev, and deleted at the end
  --device virtio-net-pci|virtio-net-device,netdev=ID[,mac=MAC][,host_mtu=N][,vectors=N][,csum=off]…
                   a NIC on it, over PCI or MMIO; further words as in QEMU
  --json           events on stdout, one JSON object a line, what the guest writes among them
  --help           this text

Exit code: ${EXIT_CODES.poweroff} the guest switched off, ${EXIT_CODES.reset} it reset, ${EXIT_CODES.panic} its kernel panicked, ${EXIT_CODES.failed} a processor could not go on, ${EXIT_CODES.stopped} left by Ctrl-A x;
${EXIT_CODES.host} this host lacks a device such as /dev/kvm, 1 anything else that failed, 2 wrong usage, 130 or 143 after a signal.
`

const text = { type: 'string' } as const
const texts = { type: 'string', multiple: true, default: [] as string[] } as const
const known = {
  kernel: text,
  initrd: text,
  append: text,
  smp: text,
  memory: text,
  netdev: texts,
  device: texts,
  plug: texts,
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h' },
} as const

function parse(args: readonly string[]): RunOptions | undefined {
  assertKnown(args, known, usage)
  const { values } = parseArgs({ args: [...args], options: known })
  if (values.help) return undefined
  if (values.kernel === undefined) throw new UsageError('--kernel is missing', usage)
  const smp = parseSmp(values.smp ?? defaults.smp)
  return {
    kernel: values.kernel,
    initrd: values.initrd,
    append: values.append ?? defaults.append,
    smp,
    memory: parseMemory(values.memory ?? defaults.memory),
    nics: parseNics(values.netdev, values.device, { smp, plugs: values.plug }),
    json: values.json,
  }
}

/** Undefined where only the help is wanted. @throws {UsageError} naming the option */
export function parseOptions(args: readonly string[]): RunOptions | undefined {
  return withUsage(usage, () => parse(args))
}
