// A private apt: fetches packages of any Debian release, with apt's own verification, without touching the host's apt.

import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { exitCodes, LabError } from './failure.ts'
import { cacheDirectory } from './project.ts'
import { say } from './report.ts'
import { runTool } from './tool.ts'

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** Holds indexes and packages while they are needed; what an interrupted run left is checked and used again. */
export const aptDirectory = path.join(cacheDirectory, 'apt')

export interface DebianPackage {
  readonly name: string
  readonly version: string
  readonly sha256: string
}

/** One suite of the Debian archive. */
export interface Suite {
  /** The packages whose name matches, from the one with the newest name on. */
  find(name: RegExp): string[]
  describe(names: readonly string[]): DebianPackage[]
  /** The packages that these cannot do without; of alternatives the first. */
  dependencies(names: readonly string[]): string[]
  /** The verified package files. */
  download(wanted: readonly DebianPackage[]): Promise<string[]>
}

// The mirror is whatever the host's own apt uses: it may be a local one, or the only one that can be reached.
const findMirror = (): string => {
  const chosen = process.env.LAB_MIRROR
  if (chosen !== undefined && chosen !== '') return chosen
  const indexes = runTool('apt-get', ['update', '--print-uris']).toString()
  const release =
    /^'(?!cdrom:)(\S+?)\/*\/dists\/(?:bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable)\/InRelease' /m
  const mirror = release.exec(indexes)?.[1]
  if (mirror !== undefined) return mirror
  throw new LabError(
    exitCodes.notReady,
    "the host's apt sources name no Debian mirror: set LAB_MIRROR to the URI of one, as in a deb line",
  )
}

const sha256Of = async (file: string): Promise<string> => {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

/** Downloads the index of `suite` and checks its signature. */
export const openSuite = async (suite: string): Promise<Suite> => {
  if (!existsSync(keyring)) {
    throw new LabError(exitCodes.notReady, `${keyring} is missing: install the package debian-archive-keyring`)
  }
  const directory = path.join(aptDirectory, suite)
  const downloads = path.join(aptDirectory, 'packages')
  await mkdir(path.join(directory, 'lists', 'partial'), { recursive: true })
  await mkdir(path.join(directory, 'cache'), { recursive: true })
  await mkdir(downloads, { recursive: true })
  const sources = path.join(directory, 'sources.list')
  const status = path.join(directory, 'status')
  const configuration = path.join(directory, 'apt.conf')
  await writeFile(sources, `deb [arch=amd64 signed-by=${keyring}] ${findMirror()} ${suite} main\n`)
  await writeFile(status, '')
  // The host's own settings stay in force (a proxy, for example), except for its sources and its hooks.
  const settings = {
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': path.join(directory, 'lists'),
    'Dir::State::status': status,
    'Dir::Cache': path.join(directory, 'cache'),
    'APT::Architecture': 'amd64',
    'APT::Get::AllowUnauthenticated': 'false',
    'Acquire::AllowInsecureRepositories': 'false',
    // The user _apt may not enter the checkout's directory.
    'APT::Sandbox::User': 'root',
  }
  const lines = ['#clear APT::Update::Post-Invoke;', '#clear APT::Update::Post-Invoke-Success;']
  lines.push('#clear APT::Architectures;', '#clear Acquire::Languages;', 'Acquire::Languages "none";')
  for (const [name, value] of Object.entries(settings)) lines.push(`${name} "${value}";`)
  await writeFile(configuration, `${lines.join('\n')}\n`)

  const apt = (command: string, args: readonly string[], cwd = directory): void => {
    // Progress belongs on stderr: stdout carries what the lab's command prints.
    runTool(command, ['-c', configuration, ...args], { cwd, stdio: ['ignore', process.stderr, process.stderr] })
  }
  const query = (...args: string[]): string => runTool('apt-cache', ['-c', configuration, ...args]).toString()

  say(`reading the package index of Debian's ${suite}`)
  apt('apt-get', ['update', '-q', '--error-on=any'])

  const find = (name: RegExp): string[] => {
    const matches = query('pkgnames')
      .split('\n')
      .filter((candidate) => name.test(candidate))
    return matches.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
  }

  const records = new Map<string, string>()
  /** What the index has on each, in as few queries as it takes: each reads all of it. */
  const recordsOf = (names: readonly string[]): string[] => {
    const unknown = names.filter((name) => !records.has(name))
    const found = unknown.length === 0 ? '' : query('show', '--no-all-versions', ...unknown)
    for (const record of found.split('\n\n')) records.set(/^Package: (.+)$/m.exec(record)?.[1] ?? '', record)
    return names.map((name) => records.get(name) ?? '')
  }
  const fieldOf = (record: string, label: string): string | undefined =>
    new RegExp(`^${label}: (.+)$`, 'm').exec(record)?.[1]

  const describe = (names: readonly string[]): DebianPackage[] =>
    recordsOf(names).map((record, i) => {
      const name = names[i] as string
      const field = (label: string): string => {
        const value = fieldOf(record, label)
        if (value === undefined)
          throw new LabError(exitCodes.notReady, `the index of ${suite} has no ${label} for ${name}`)
        return value
      }
      return { name, version: field('Version'), sha256: field('SHA256') }
    })

  const dependencies = (names: readonly string[]): string[] => {
    const listed = recordsOf(names).flatMap((record) =>
      ['Pre-Depends', 'Depends'].flatMap((label) => fieldOf(record, label)?.split(',') ?? []),
    )
    return [...new Set(listed.map((each) => /[\w.+-]+/.exec(each)?.[0] ?? '').filter(Boolean))]
  }

  const download = async (wanted: readonly DebianPackage[]): Promise<string[]> => {
    const fileOf = ({ name, version }: DebianPackage): string =>
      path.join(downloads, `${name}_${version.replaceAll(':', '%3a')}_amd64.deb`)
    const isThere = async (each: DebianPackage): Promise<boolean> =>
      existsSync(fileOf(each)) && (await sha256Of(fileOf(each))) === each.sha256
    const missing: DebianPackage[] = []
    for (const each of wanted) if (!(await isThere(each))) missing.push(each)
    const names = missing.map(({ name, version }) => `${name}=${version}`)
    for (const each of missing) await rm(fileOf(each), { force: true })
    if (names.length > 0) {
      say(`downloading ${names.length > 1 ? `${names.length} packages` : names[0]}`)
      apt('apt-get', ['download', '-q', ...names], downloads)
    }
    for (const each of missing) {
      if (!(await isThere(each)))
        throw new LabError(exitCodes.notReady, `${fileOf(each)} is not what the index has the sha256 ${each.sha256} of`)
    }
    return wanted.map(fileOf)
  }

  return { find, describe, dependencies, download }
}
