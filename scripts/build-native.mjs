// Builds the native addon into build/Release with node-gyp. Quiet, unless it fails.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))

/** Ours in a checkout; in an installed package, which has no development dependencies, the one npm brings along. */
const findNodeGyp = () => {
  const homes = [path.join(root, 'node_modules')]
  if (process.env.npm_execpath)
    homes.push(path.join(path.dirname(path.dirname(process.env.npm_execpath)), 'node_modules'))
  const found = homes.map((home) => path.join(home, 'node-gyp', 'bin', 'node-gyp.js')).find((file) => existsSync(file))
  if (found === undefined) throw new Error('node-gyp is missing: run this through npm (npm run build:native)')
  return found
}

/** Where this Node.js keeps its headers. Without one node-gyp downloads them, or follows npm's own "nodedir". */
const headerOptions = () => {
  if (process.env.npm_config_nodedir) return []
  const prefix = path.dirname(path.dirname(process.execPath))
  return existsSync(path.join(prefix, 'include', 'node', 'node_version.h')) ? [`--nodedir=${prefix}`] : []
}

const args = [findNodeGyp(), 'rebuild', '--jobs', 'max', ...headerOptions()]
const result = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', maxBuffer: Number.POSITIVE_INFINITY })
if (result.error) throw result.error
if (result.status !== 0) {
  process.stderr.write(`${result.stdout}${result.stderr}`)
  process.exitCode = 1
}
