// `npm run prebuild`: builds the binaries that the package ships into prebuilds/, and says for each platform whether it
// was made, or why not. `--here` builds this machine's alone; `--json` is for programs.

import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { checkFile } from './check-prebuilds.ts'

// The oldest Node.js of package.json's engines: Node-API keeps what is built for it working on every later one.
const node = '20.19.0'

const root = fileURLToPath(new URL('../../', import.meta.url))

type Libc = 'glibc' | 'musl'

export interface Target {
  arch: 'x64' | 'arm64'
  libc: Libc
}

/** Debian's cross compilers, all for glibc: the prefix of their commands, and the package. */
const cross = {
  x64: { prefix: 'x86_64-linux-gnu-', debian: 'g++-x86-64-linux-gnu' },
  arm64: { prefix: 'aarch64-linux-gnu-', debian: 'g++-aarch64-linux-gnu' },
} as const

const targets: readonly Target[] = [
  { arch: 'x64', libc: 'glibc' },
  { arch: 'arm64', libc: 'glibc' },
  { arch: 'x64', libc: 'musl' },
  { arch: 'arm64', libc: 'musl' },
]

interface Result extends Target {
  platform: string
  made: boolean
  /** From the package root, where it was made. */
  file?: string
  bytes?: number
  /** Where it was not. */
  reason?: string
}

/** As prebuildify and node-gyp-build tell it. */
const ownLibc: Libc = existsSync('/etc/alpine-release') ? 'musl' : 'glibc'

const isOwn = ({ arch, libc }: Target): boolean =>
  process.platform === 'linux' && arch === process.arch && libc === ownLibc

/** The tools for a target, as node-gyp and prebuildify know them, or why there are none. */
export function tools(target: Target): Record<string, string> | string {
  if (isOwn(target)) return {}
  if (target.libc === 'musl') {
    return `Debian has no C++ library for musl (its musl-gcc compiles C alone): run this on Alpine Linux for ${target.arch}`
  }
  const { prefix, debian } = cross[target.arch]
  const compiler = `${prefix}g++`
  if (spawnSync(compiler, ['--version']).error !== undefined) {
    return `${compiler} is missing: install what Debian calls ${debian}`
  }
  return { CC: `${prefix}gcc`, CXX: compiler, AR: `${prefix}ar`, PREBUILD_STRIP_BIN: `${prefix}strip` }
}

/** Headers that came with this Node.js spare node-gyp the download of others. */
export function nodeHeaders(): Record<string, string> {
  if (process.env.npm_config_nodedir) return {}
  const prefix = path.dirname(path.dirname(process.execPath))
  return existsSync(path.join(prefix, 'include', 'node', 'node_version.h')) ? { npm_config_nodedir: prefix } : {}
}

/** What the tools printed if they failed. */
function compile(target: Target, environment: Record<string, string>): string {
  // A copy: prebuildify takes the binary out of build/Release, where the checkout's own one is.
  const scratch = path.join(root, 'build', 'prebuild', `${target.arch}-${target.libc}`)
  rmSync(scratch, { recursive: true, force: true })
  mkdirSync(scratch, { recursive: true })
  for (const name of ['package.json', 'binding.gyp', 'native']) {
    cpSync(path.join(root, name), path.join(scratch, name), { recursive: true })
  }
  const prebuildify = path.join(root, 'node_modules', '.bin', 'prebuildify')
  const args = ['--napi', '--strip', '--tag-libc', '--target', node, '--arch', target.arch, '--out', root]
  const { error, status, signal, stdout, stderr } = spawnSync(process.execPath, [prebuildify, ...args], {
    cwd: scratch,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    env: { ...process.env, ...nodeHeaders(), ...environment },
  })
  if (error !== undefined) throw error
  rmSync(scratch, { recursive: true })
  return status === 0 ? '' : `${stdout}${stderr}prebuildify ended with ${signal ?? status}`
}

/** Throws what the tools printed where they failed: that is no reason but an error. */
function make(target: Target): Result {
  const platform = `linux-${target.arch}`
  const environment = tools(target)
  if (typeof environment === 'string') return { platform, ...target, made: false, reason: environment }
  const failure = compile(target, environment)
  if (failure !== '') throw new Error(`${platform} ${target.libc}: ${failure}`)
  const file = path.join('prebuilds', platform, `vhost-net.${target.libc}.node`)
  const problems = checkFile(platform, path.join(root, file))
  if (problems.length > 0) throw new Error(`${file} ${problems.join(', ')}`)
  return { platform, ...target, made: true, file, bytes: statSync(path.join(root, file)).size }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { here: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
  })
  const results: Result[] = []
  for (const target of targets.filter((target) => !values.here || isOwn(target))) {
    const result = make(target)
    results.push(result)
    if (values.json) continue
    const said = result.made ? `made: ${result.file}, ${result.bytes} bytes` : `not made: ${result.reason}`
    console.log(`${`${result.platform} ${result.libc}`.padEnd(18)} ${said}`)
  }
  if (values.json) console.log(JSON.stringify(results, null, 2))
  if (!results.some(({ made }) => made)) process.exitCode = 1
}
