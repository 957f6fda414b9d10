// examples/embed as its reader has it: with this package installed from its tarball, and its own addon and guest built.
// Made here, since npm and compilers take minutes in the lab, and kept until something of it changes.

import { existsSync, readdirSync, statSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { installPacked, npm } from '../install-packed.ts'
import { cacheDirectory, projectRoot } from '../lab/project.ts'

/** Where it is installed. */
export const embedDirectory = path.join(cacheDirectory, 'embed')

const example = path.join(projectRoot, 'examples/embed')
const addon = path.join('build', 'Release', 'vhost_net.node')

/** What git has of the example. */
const sources = (): string[] =>
  readdirSync(example).filter((name) => !['node_modules', 'build', 'package-lock.json'].includes(name))

const inputs = (): string[] => [
  ...sources().map((name) => path.join(example, name)),
  ...readdirSync(path.join(projectRoot, 'dist/lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js'))
    .map((name) => path.join(projectRoot, 'dist/lib', name)),
  path.join(projectRoot, 'package.json'),
  path.join(projectRoot, addon),
]

const modified = (file: string): number => statSync(file).mtimeMs

/** Installs and builds it where what is there is missing or old. */
export const provideEmbed = async (): Promise<void> => {
  const stamp = path.join(embedDirectory, '.made')
  if (existsSync(stamp) && inputs().every((file) => modified(file) < modified(stamp))) return
  await mkdir(cacheDirectory, { recursive: true })
  // Only what is finished gets the name that is believed.
  const work = await mkdtemp(path.join(cacheDirectory, 'embed-'))
  try {
    for (const name of sources()) await cp(path.join(example, name), path.join(work, name), { recursive: true })
    await installPacked(work)
    // Given tarballs, npm does not run the project's own scripts.
    await npm(work, 'run', 'install')
    // Where `npm run build:native` would put it.
    const built = path.join(work, 'node_modules/vhost-net', addon)
    await mkdir(path.dirname(built), { recursive: true })
    await copyFile(path.join(projectRoot, addon), built)
    await writeFile(path.join(work, '.made'), '')
    await rm(embedDirectory, { recursive: true, force: true })
    await rename(work, embedDirectory)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}
