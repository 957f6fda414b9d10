// The Debian kernels of the lab and of the guests in it, fetched once and kept as vmlinuz, vmlinux and modules.

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { aptDirectory, type DebianPackage, openSuite } from './apt.ts'
import { exitCodes, LabError } from './failure.ts'
import { bootModules, keepModules, keptModules } from './modules.ts'
import { cacheDirectory } from './project.ts'
import { say, timed } from './report.ts'
import { runTool } from './tool.ts'
import { extractVmlinux } from './vmlinux.ts'

interface KernelSource {
  /** The release of Debian that has this kernel: the same one whatever the host's own is. */
  readonly suite: string
  /** The package with the kernel image; its first group is the kernel's release. */
  readonly image: RegExp
  /** Further packages, where Debian splits the kernel. */
  readonly others: (release: string) => readonly string[]
}

// Names, not versions: Debian removes a point version when the next one comes.
const labSources = {
  '6.1': { suite: 'bookworm', image: /^linux-image-(6\.1\.0-\d+-amd64)$/, others: () => [] },
  '6.12': { suite: 'trixie', image: /^linux-image-(6\.12\.\d+\+deb13-amd64)$/, others: () => [] },
  '7.3': {
    suite: 'trixie-backports',
    image: /^linux-binary-(7\.3\.\d+\+deb13-amd64)$/,
    others: (release) => [`linux-modules-${release}`, `linux-base-${release}`],
  },
} satisfies Record<string, KernelSource>

// They cannot be the lab's: they have no 9p, through which it reaches this machine's files.
const guestSources = {
  '6.1-cloud': { suite: 'bookworm', image: /^linux-image-(6\.1\.0-\d+-cloud-amd64)$/, others: () => [] },
  '6.12-cloud': { suite: 'trixie', image: /^linux-image-(6\.12\.\d+\+deb13-cloud-amd64)$/, others: () => [] },
} satisfies Record<string, KernelSource>

const sources = { ...labSources, ...guestSources }

/** Of the lab. */
export type KernelName = keyof typeof labSources

/** Of a guest. */
export type GuestKernelName = keyof typeof sources

export const kernelNames = Object.keys(labSources) as KernelName[]

export const defaultKernel: KernelName = '6.12'

export const isKernelName = (name: string): name is KernelName => Object.hasOwn(labSources, name)

export interface Kernel {
  readonly name: GuestKernelName
  /** What `uname -r` says. */
  readonly release: string
  readonly vmlinux: string
  /** As Debian ships it. */
  readonly vmlinuz: string
  /** The directory that holds lib/modules/RELEASE. */
  readonly root: string
}

interface Manifest {
  readonly recipe: string
  readonly release: string
  readonly packages: readonly DebianPackage[]
}

/** Changes whenever a cached kernel would be made differently. */
const recipeOf = (name: GuestKernelName): string => {
  const { suite, image }: KernelSource = sources[name]
  const inputs = [suite, image.source, 'vmlinuz', ...bootModules, ...keptModules.map((pattern) => pattern.source)]
  return createHash('sha256').update(inputs.join('\n')).digest('hex')
}

const directoryOf = (name: GuestKernelName): string => path.join(cacheDirectory, 'kernels', name)

const describe = (name: GuestKernelName, release: string): Kernel => {
  const root = directoryOf(name)
  return { name, release, vmlinux: path.join(root, 'vmlinux'), vmlinuz: path.join(root, 'vmlinuz'), root }
}

const readManifest = async (name: GuestKernelName): Promise<Manifest | undefined> => {
  const file = path.join(directoryOf(name), 'manifest.json')
  if (!existsSync(file)) return undefined
  const manifest = JSON.parse(await readFile(file, 'utf8')) as Manifest
  return manifest.recipe === recipeOf(name) ? manifest : undefined
}

/** Brings an unpacked package into the merged layout that depmod expects, with lib as a link to usr/lib. */
const mergeUsr = async (tree: string): Promise<void> => {
  const lib = path.join(tree, 'lib')
  if (existsSync(lib)) {
    await mkdir(path.join(tree, 'usr/lib'), { recursive: true })
    runTool('cp', ['-a', '--link', `${lib}/.`, path.join(tree, 'usr/lib')])
    await rm(lib, { recursive: true })
  }
  await symlink('usr/lib', lib)
}

const build = async (name: GuestKernelName, work: string): Promise<Manifest> => {
  const source: KernelSource = sources[name]
  const suite = await openSuite(source.suite)
  const newest = suite.find(source.image)[0]
  const release = newest === undefined ? undefined : source.image.exec(newest)?.[1]
  if (newest === undefined || release === undefined) {
    throw new LabError(
      exitCodes.notReady,
      `Debian's ${source.suite} has no package like ${source.image.source} any more`,
    )
  }
  const packages = suite.describe([newest, ...source.others(release)])
  const tree = path.join(work, 'tree')
  const files = await suite.download(packages)
  await timed(`unpacking kernel ${release}`, async () => {
    for (const file of files) runTool('dpkg', ['-x', file, tree])
    await mergeUsr(tree)
    const images = [
      path.join(tree, 'boot', `vmlinuz-${release}`),
      path.join(tree, 'usr/lib/modules', release, 'vmlinuz'),
    ]
    const image = images.find((candidate) => existsSync(candidate))
    if (image === undefined) throw new LabError(exitCodes.notReady, `${newest} holds no kernel image`)
    await copyFile(image, path.join(work, 'vmlinuz'))
    await writeFile(path.join(work, 'vmlinux'), extractVmlinux(await readFile(image)))
    await keepModules(tree, work, release)
    await rm(tree, { recursive: true })
  })
  const manifest: Manifest = { recipe: recipeOf(name), release, packages }
  await writeFile(path.join(work, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  return manifest
}

/** The kernel from the cache, which is filled first where necessary. */
export const provideKernel = async (name: GuestKernelName): Promise<Kernel> => {
  const known = await readManifest(name)
  if (known !== undefined) return describe(name, known.release)
  say(`kernel ${name} is not in the cache: fetching it from Debian (once)`)
  const directory = directoryOf(name)
  // Only the finished directory gets the name that is believed.
  const work = `${directory}.partial`
  await rm(work, { recursive: true, force: true })
  await mkdir(work, { recursive: true })
  const { release } = await build(name, work)
  await rm(directory, { recursive: true, force: true })
  await rename(work, directory)
  // The next fetch needs a newer index anyway.
  await rm(aptDirectory, { recursive: true })
  return describe(name, release)
}
