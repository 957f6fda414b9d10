// The first and only root of a guest: busybox, Debian's programs with their libraries, modules of its kernel, and a shell.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Kernel } from '../lab/kernels.ts'
import { NewcArchive } from '../lab/newc.ts'

const BUSYBOX = '/bin/busybox'
const programs = ['/usr/sbin/ethtool', '/usr/bin/iperf3', '/usr/bin/socat']
const modules = ['virtio_mmio', 'virtio_pci', 'virtio_net', 'af_packet', 'pvpanic-mmio']

/** What a guest has that others do not. */
export interface GuestExtras {
  /** Modules of its kernel by their names, loaded as the others are. */
  modules?: readonly string[]
  /** What is in files, by their paths from the root on. */
  files?: Readonly<Record<string, Buffer | string>>
  /** Lines of sh that its init runs besides. */
  init?: GuestInit
}

export interface GuestInit {
  beforeDriver?: string
  /** Once all modules are there, before it takes commands. */
  loaded?: string
}

/** Said behind each command's output, with its number and its status. */
export const PROMPT = '=== '

/**
 * The console is a terminal: without echo, and without a carriage return before each line's end. Commands are read from
 * it line by line, each one's output is followed by its number and its status. Modules are loaded by their names below
 * /modules.
 */
const init = ({ beforeDriver = ':', loaded = ':' }: GuestInit): string => `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -echo -onlcr
ip link set lo up
for module in $(cat /modules/order); do
  if [ "$module" = virtio_net.ko ]; then
    ${beforeDriver}
  fi
  insmod "/modules/$module"
done
${loaded}
number=0
echo '${PROMPT}'$number 0
while IFS= read -r line; do
  number=$((number + 1))
  eval "$line" < /dev/null 2>&1
  echo '${PROMPT}'$number $?
done
`

/** What udhcpc does with what it was given. */
const UDHCPC_SCRIPT = `#!/bin/sh
case $1 in
  deconfig) ip link set "$interface" up ;;
  bound | renew) ip addr replace "$ip/$mask" dev "$interface" ;;
esac
`

/** Files of modules, each behind the ones that it needs; those that are built into the kernel are not among them. */
function moduleFiles({ root, release }: Kernel, names: readonly string[]): string[] {
  const directory = path.join(root, 'lib/modules', release)
  const ordered = new Set<string>()
  for (const line of readFileSync(path.join(directory, 'modules.dep'), 'utf8').split('\n')) {
    const [file = '', needed = ''] = line.split(':')
    if (!names.includes(path.basename(file, '.ko'))) continue
    // depmod lists what a module needs from the nearest to the farthest.
    for (const each of needed.split(' ').filter(Boolean).reverse()) ordered.add(each)
    ordered.add(file)
  }
  return [...ordered].map((file) => path.join(directory, file))
}

/** Every file that the dynamic linker loads for a program, itself among them. */
function librariesOf(program: string): string[] {
  const listed = execFileSync('ldd', [program], { encoding: 'utf8' })
  return [...listed.matchAll(/(\/\S+) \(0x/g)].map(([, file]) => file as string)
}

export function writeGuestInitramfs(kernel: Kernel, file: string, extras: GuestExtras = {}): void {
  const archive = new NewcArchive()
  for (const directory of ['proc', 'sys', 'dev', 'tmp']) archive.directory(directory)
  archive.file('bin/busybox', readFileSync(BUSYBOX))
  const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean)
  for (const applet of applets) if (applet !== 'busybox') archive.symlink(`bin/${applet}`, 'busybox')
  for (const each of new Set([...programs, ...programs.flatMap(librariesOf)])) {
    archive.file(each.slice(1), readFileSync(each))
  }
  const files = moduleFiles(kernel, [...modules, ...(extras.modules ?? [])])
  for (const each of files) archive.file(`modules/${path.basename(each)}`, readFileSync(each))
  archive.file('modules/order', files.map((each) => `${path.basename(each)}\n`).join(''))
  archive.file('bin/udhcpc.script', UDHCPC_SCRIPT)
  archive.file('init', init(extras.init ?? {}))
  for (const [name, content] of Object.entries(extras.files ?? {})) archive.file(name.slice(1), content)
  writeFileSync(file, archive.finish())
}
