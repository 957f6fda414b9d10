// Installs this package into a project as npm would from its registry, of which it asks nothing: packed from the checkout.

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { nodeHeaders } from './prebuild.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** What `npm pack` made. */
export interface Packed {
  filename: string
  size: number
  files: { path: string }[]
}

/** Runs npm; answers with its stdout. */
export async function npm(directory: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, ...nodeHeaders(), npm_config_update_notifier: 'false' }
  return (await promisify(execFile)('npm', args, { cwd: directory, env })).stdout
}

/**
 * Its dependencies come from what the checkout has.
 * @param project a directory; with no package.json it becomes an empty project.
 * @param options of `npm install`.
 */
export async function installPacked(project: string, ...options: string[]): Promise<Packed> {
  const pack = async (directory: string): Promise<Packed> => {
    const stdout = await npm(directory, 'pack', '--json', '--ignore-scripts', '--pack-destination', project)
    return (JSON.parse(stdout) as [Packed])[0]
  }
  const { dependencies } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  const packed = await pack(root)
  const others = await Promise.all(Object.keys(dependencies).map((name) => pack(path.join(root, 'node_modules', name))))
  const manifest = path.join(project, 'package.json')
  if (!existsSync(manifest)) await writeFile(manifest, '{ "private": true }')
  const tarballs = [packed, ...others].map(({ filename }) => `./${filename}`)
  await npm(project, 'install', '--offline', '--no-audit', '--no-fund', ...options, ...tarballs)
  return packed
}
