// Builds the binary for this machine's platform into prebuilds/, as it ships in the package.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

// The oldest Node.js of package.json's engines: Node-API keeps what is built for it working on every later one.
const target = '20.19.0'

const root = fileURLToPath(new URL('../', import.meta.url))
const prebuildify = path.join(root, 'node_modules', '.bin', 'prebuildify')

const { error, signal, status } = spawnSync(
  process.execPath,
  [prebuildify, '--napi', '--strip', '--tag-libc', '--target', target],
  { cwd: root, stdio: 'inherit', env: { ...process.env, ...nodeHeaders() } },
)
if (error) throw error
if (signal) throw new Error(`prebuildify was ended by ${signal}`)
process.exitCode = status ?? 1

/** Headers that came with this Node.js spare node-gyp the download of others. */
function nodeHeaders() {
  if (process.env.npm_config_nodedir) return {}
  const prefix = path.dirname(path.dirname(process.execPath))
  return existsSync(path.join(prefix, 'include', 'node', 'node_version.h')) ? { npm_config_nodedir: prefix } : {}
}
