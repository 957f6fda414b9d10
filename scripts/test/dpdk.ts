// DPDK's testpmd with everything that it loads, of one release of Debian whatever the host's own is, fetched once and kept.
// Debian's package of it stands on DPDK's development files, which are hundreds of packages: the host gets none of them.

import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { aptDirectory, type DebianPackage, openSuite, type Suite } from '../lab/apt.ts'
import { exitCodes, LabError } from '../lab/failure.ts'
import { cacheDirectory } from '../lab/project.ts'
import { say, timed } from '../lab/report.ts'
import { runTool } from '../lab/tool.ts'

const SUITE = 'trixie'
const PROGRAM = 'dpdk-testpmd'
const PACKAGE = 'dpdk-dev'
/** What it loads when it is told to: a driver, and what its buffers come from. The number is of the libraries' interface. */
const PLUGIN_PACKAGES = [/^librte-net-virtio\d+$/, /^librte-mempool-ring\d+$/]
const LINKER = 'ld-linux-x86-64.so.2'
const LIBRARIES = 'usr/lib/x86_64-linux-gnu'

/** Where all of it lies, in one directory. */
export const dpdkDirectory = path.join(cacheDirectory, 'dpdk')

export interface Dpdk {
  /** Files below `dpdkDirectory`. */
  readonly files: readonly string[]
  /** One of them, which runs `program` with `--library-path`. */
  readonly linker: string
  readonly program: string
  /** To be named to the program with `-d`. */
  readonly plugins: readonly string[]
}

interface Manifest extends Dpdk {
  readonly packages: readonly DebianPackage[]
}

const manifestFile = path.join(dpdkDirectory, 'manifest.json')

/** Nothing is started besides the program. */
const isLibrary = (name: string): boolean => /^(lib|ibverbs-providers$)/.test(name) && !name.endsWith('-dev')

const withDependencies = (suite: Suite, names: readonly string[]): DebianPackage[] => {
  const all = new Set(names)
  for (let next = names; next.length > 0; ) {
    next = suite.dependencies(next).filter((each) => isLibrary(each) && !all.has(each))
    for (const each of next) all.add(each)
  }
  return suite.describe([...all])
}

/** `librte_net_virtio.so.25` in `librte-net-virtio25`. */
const libraryIn = (name: string): string => name.replaceAll('-', '_').replace(/(?=\d+$)/, '.so.')

/** The files that the dynamic linker of `tree` finds for a program or library of it, itself not among them. */
const librariesOf = (tree: string, file: string): string[] => {
  const linker = path.join(tree, LIBRARIES, LINKER)
  const listed = runTool(linker, ['--library-path', path.join(tree, LIBRARIES), '--list', file]).toString()
  const missing = /^\s*(\S+) => not found$/m.exec(listed)
  if (missing !== null) throw new LabError(exitCodes.notReady, `no package of ${PACKAGE}'s holds ${missing[1]}`)
  return [...listed.matchAll(/=> (\/\S+) \(0x/g)].map(([, found]) => found as string)
}

const build = async (work: string): Promise<void> => {
  const suite = await openSuite(SUITE)
  const plugins = PLUGIN_PACKAGES.map((pattern) => suite.find(pattern)[0]).filter((name) => name !== undefined)
  if (plugins.length < PLUGIN_PACKAGES.length)
    throw new LabError(exitCodes.notReady, `Debian's ${SUITE} has no such packages as ${PLUGIN_PACKAGES.join(', ')}`)
  const packages = withDependencies(suite, [PACKAGE, ...plugins])
  const tree = path.join(work, 'tree')
  const debs = await suite.download(packages)
  await timed('unpacking DPDK', async () => {
    for (const each of debs) runTool('dpkg', ['-x', each, tree])
    const program = path.join(tree, 'usr/bin', PROGRAM)
    const linker = path.join(tree, LIBRARIES, LINKER)
    const loaded = plugins.map((name) => path.join(tree, LIBRARIES, libraryIn(name)))
    const files = new Set([linker, program, ...loaded])
    for (const each of [program, ...loaded]) for (const library of librariesOf(tree, each)) files.add(library)
    for (const each of files) await copyFile(each, path.join(work, path.basename(each)))
    await rm(tree, { recursive: true })
    const manifest: Manifest = {
      files: [...files].map((each) => path.basename(each)),
      linker: LINKER,
      program: PROGRAM,
      plugins: loaded.map((each) => path.basename(each)),
      packages,
    }
    await writeFile(path.join(work, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  })
}

/** From the cache, which is filled first where necessary. */
export const provideDpdk = async (): Promise<Dpdk> => {
  if (!existsSync(manifestFile)) {
    say('DPDK is not in the cache: fetching it from Debian (once)')
    // Only the finished directory gets the name that is believed.
    const work = `${dpdkDirectory}.partial`
    await rm(work, { recursive: true, force: true })
    await mkdir(work, { recursive: true })
    await build(work)
    await rm(dpdkDirectory, { recursive: true, force: true })
    await rename(work, dpdkDirectory)
    await rm(aptDirectory, { recursive: true })
  }
  return JSON.parse(await readFile(manifestFile, 'utf8')) as Manifest
}
