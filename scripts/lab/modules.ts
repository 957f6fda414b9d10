// Which kernel modules the lab keeps of a Debian kernel, and how they get from the package to the cache.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { exitCodes, LabError } from './failure.ts'
import { runTool } from './tool.ts'

/** What the initramfs loads, in this order, to reach the host's file tree. Some are built into newer kernels. */
export const bootModules = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay'] as const

/** What can be loaded inside the machine: a pattern on the path below the kernel's module directory. */
export const keptModules: readonly RegExp[] = [
  /^kernel\/drivers\/(vhost|virtio|vdpa)\//,
  /^kernel\/drivers\/net\/(tun|tap|macvlan|macvtap|ipvlan|ipvtap|veth|dummy|ifb|vrf|geneve|bareudp|virtio_net)\./,
  /^kernel\/drivers\/net\/(bonding|vxlan|wireguard|team)\b/,
  /^kernel\/drivers\/(block\/(loop|virtio_blk|brd)|char\/virtio_console|char\/hw_random\/virtio-rng)\./,
  /^kernel\/net\/(8021q|9p|bridge|core|ipv4|ipv6|llc|mpls|netfilter|nsh|openvswitch|packet|psample|sched|vmw_vsock)\//,
  /^kernel\/net\/(802|netlink|unix|xdp|key|xfrm)\//,
  /^kernel\/fs\/(9p|overlayfs|fuse|ext4|squashfs|netfs|fscache)\//,
  /^kernel\/arch\/x86\/kvm\//,
  // Of guests: their machine is told of a panic.
  /^kernel\/drivers\/misc\/pvpanic\//,
  // Of guests: drivers in their userspace get PCI devices from it. Debian's vfio gives none to them without an IOMMU.
  /^kernel\/drivers\/uio\/uio_pci_generic\./,
  // Asked for by name at run time, so no module depends on them: openvswitch, for one, needs crc32c.
  /^kernel\/(arch\/x86\/)?crypto\//,
]

interface ModuleTree {
  readonly directory: string
  /** For each module the modules that it needs, all as paths below the directory. */
  readonly dependencies: ReadonlyMap<string, readonly string[]>
}

/** Reads the index that depmod wrote. */
const readTree = async (root: string, release: string): Promise<ModuleTree> => {
  const directory = path.join(root, 'lib/modules', release)
  const lines = (await readFile(path.join(directory, 'modules.dep'), 'utf8')).split('\n')
  const entries = lines.filter(Boolean).map((line): [string, string[]] => {
    const colon = line.indexOf(':')
    return [
      line.slice(0, colon),
      line
        .slice(colon + 1)
        .split(' ')
        .filter(Boolean),
    ]
  })
  return { directory, dependencies: new Map(entries) }
}

/** Copies the kept modules and what they need from an unpacked package to `target`, uncompressed and indexed. */
export const keepModules = async (source: string, target: string, release: string): Promise<void> => {
  runTool('depmod', ['-b', source, release])
  const { directory, dependencies } = await readTree(source, release)
  const wanted = new Set<string>()
  for (const [file, needed] of dependencies) {
    if (keptModules.some((pattern) => pattern.test(file))) for (const each of [file, ...needed]) wanted.add(each)
  }
  const targetDirectory = path.join(target, 'lib/modules', release)
  for (const file of wanted) {
    const from = path.join(directory, file)
    const to = path.join(targetDirectory, file.replace(/\.xz$/, ''))
    await mkdir(path.dirname(to), { recursive: true })
    // Decompression inside the emulated machine would cost more than reading the larger file.
    if (file.endsWith('.xz')) await writeFile(to, runTool('xz', ['-dc', from]))
    else await copyFile(from, to)
  }
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']) {
    await copyFile(path.join(directory, name), path.join(targetDirectory, name))
  }
  runTool('depmod', ['-b', target, release])
}

/** The files of the boot modules below `root`, each after the ones that it needs. */
export const bootModuleFiles = async (root: string, release: string): Promise<string[]> => {
  const { directory, dependencies } = await readTree(root, release)
  const builtin = await readFile(path.join(directory, 'modules.builtin'), 'utf8')
  const ordered = new Set<string>()
  for (const name of bootModules) {
    const fileName = `/${name}.ko`
    const file = [...dependencies.keys()].find((candidate) => candidate.endsWith(fileName))
    if (file !== undefined) {
      // depmod lists the needs of a module from the nearest to the farthest.
      for (const each of [...(dependencies.get(file) ?? [])].reverse()) ordered.add(each)
      ordered.add(file)
    } else if (!builtin.includes(`${fileName}\n`)) {
      throw new LabError(exitCodes.notReady, `kernel ${release} has no ${name}`)
    }
  }
  return [...ordered].map((file) => path.join(directory, file))
}
