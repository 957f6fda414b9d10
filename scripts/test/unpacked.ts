// Programs of Debian with everything that they load, in one directory: of one release whatever the host's own is, fetched
// once and kept. The host gets none of their packages.

import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { aptDirectory, type DebianPackage, openSuite, type Suite } from '../lab/apt.ts'
import { exitCodes, LabError } from '../lab/failure.ts'
import { say, timed } from '../lab/report.ts'
import { runTool } from '../lab/tool.ts'

// One in which everything lies below usr/.
const SUITE = 'trixie'
const LIBRARIES = 'usr/lib/x86_64-linux-gnu'

/** Runs the programs, with `--library-path` and their directory. */
export const LINKER = 'ld-linux-x86-64.so.2'

export interface Wanted {
  /** For the user. */
  readonly name: string
  /** Where all of it goes. */
  readonly directory: string
  /** The packages besides the libraries that these need. */
  packages(suite: Suite): readonly string[]
  /** Programs, and what they load by name, as paths in the packages: all they link to comes along. */
  readonly programs: readonly string[]
  /** Libraries that a program loads by name, too, of packages whose names are found. */
  plugins?(packages: readonly string[]): readonly string[]
  /** Other files. */
  readonly data?: readonly string[]
}

export interface Unpacked {
  /** All of it, without directories. */
  readonly files: readonly string[]
  /** Those loaded by name. */
  readonly plugins: readonly string[]
  readonly packages: readonly DebianPackage[]
}

/** Nothing is started besides the programs. */
const isLibrary = (name: string): boolean => /^(lib|ibverbs-providers$)/.test(name) && !name.endsWith('-dev')

const withDependencies = (suite: Suite, names: readonly string[]): DebianPackage[] => {
  const all = new Set(names)
  for (let next = names; next.length > 0; ) {
    next = suite.dependencies(next).filter((each) => isLibrary(each) && !all.has(each))
    for (const each of next) all.add(each)
  }
  return suite.describe([...all])
}

/** The files that the dynamic linker of `tree` finds for a program or library of it, itself not among them. */
const librariesOf = (tree: string, file: string, name: string): string[] => {
  const libraries = path.join(tree, LIBRARIES)
  const listed = runTool(path.join(libraries, LINKER), ['--library-path', libraries, '--list', file]).toString()
  const missing = /^\s*(\S+) => not found$/m.exec(listed)
  if (missing !== null) throw new LabError(exitCodes.notReady, `no package of ${name}'s holds ${missing[1]}`)
  return [...listed.matchAll(/=> (\/\S+) \(0x/g)].map(([, found]) => found as string)
}

const build = async (wanted: Wanted, work: string): Promise<void> => {
  const suite = await openSuite(SUITE)
  const names = wanted.packages(suite)
  const packages = withDependencies(suite, names)
  const tree = path.join(work, 'tree')
  const debs = await suite.download(packages)
  await timed(`unpacking ${wanted.name}`, async () => {
    for (const each of debs) runTool('dpkg', ['-x', each, tree])
    const plugins = (wanted.plugins?.(names) ?? []).map((each) => path.join(tree, LIBRARIES, each))
    const loading = [...wanted.programs.map((each) => path.join(tree, each)), ...plugins]
    const data = (wanted.data ?? []).map((each) => path.join(tree, each))
    const files = new Set([path.join(tree, LIBRARIES, LINKER), ...loading, ...data])
    for (const each of loading) for (const library of librariesOf(tree, each, wanted.name)) files.add(library)
    for (const each of files) await copyFile(each, path.join(work, path.basename(each)))
    await rm(tree, { recursive: true })
    const basenames = (paths: Iterable<string>): string[] => [...paths].map((each) => path.basename(each))
    const manifest: Unpacked = { files: basenames(files), plugins: basenames(plugins), packages }
    await writeFile(path.join(work, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  })
}

/** From the cache, which is filled first where necessary. */
export const provideUnpacked = async (wanted: Wanted): Promise<Unpacked> => {
  const { name, directory } = wanted
  const manifest = path.join(directory, 'manifest.json')
  if (!existsSync(manifest)) {
    say(`${name} is not in the cache: fetching it from Debian (once)`)
    // Only the finished directory gets the name that is believed.
    const work = `${directory}.partial`
    await rm(work, { recursive: true, force: true })
    await mkdir(work, { recursive: true })
    await build(wanted, work)
    await rm(directory, { recursive: true, force: true })
    await rename(work, directory)
    await rm(aptDirectory, { recursive: true })
  }
  return JSON.parse(await readFile(manifest, 'utf8')) as Unpacked
}
