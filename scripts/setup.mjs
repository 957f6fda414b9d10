// Makes a fresh checkout ready to run: system packages, npm packages, the native addon, the compiled TypeScript.
// Does only what is missing. Plain JavaScript on Node alone, since it runs before anything is installed.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
const requiredNode = [20, 19]

const isDebian = existsSync('/usr/bin/dpkg-query') && existsSync('/etc/debian_version')

/** @typedef {{ name: string, command: string }} SystemPackage A Debian package and the command that proves it. */

/** @type {SystemPackage[]} */
const buildPackages = [
  { name: 'g++', command: 'g++' },
  { name: 'make', command: 'make' },
  { name: 'python3', command: 'python3' },
]

/**
 * What fetches and unpacks a kernel, and what the first root of one is made of.
 * @type {SystemPackage[]}
 */
const kernelPackages = [
  { name: 'busybox-static', command: 'busybox' },
  { name: 'kmod', command: 'depmod' },
  { name: 'xz-utils', command: 'xz' },
  { name: 'zstd', command: 'zstd' },
  { name: 'debian-archive-keyring', command: 'dpkg' },
]

/** @type {SystemPackage[]} */
const labPackages = [
  { name: 'qemu-system-x86', command: 'qemu-system-x86_64' },
  { name: 'seabios', command: 'qemu-system-x86_64' },
  ...kernelPackages,
  { name: 'iproute2', command: 'ip' },
]

/**
 * What single commands need besides, each chosen by an option of its name.
 * @type {Record<string, SystemPackage[]>}
 */
const optionalPackages = {
  // Programs of the guests that the tests boot, of the host they talk to, and what unpacks their kernels.
  '--guests': [
    ...kernelPackages,
    { name: 'ethtool', command: 'ethtool' },
    { name: 'iperf3', command: 'iperf3' },
    { name: 'socat', command: 'socat' },
    { name: 'dnsmasq-base', command: 'dnsmasq' },
    { name: 'lz4', command: 'lz4' },
  ],
  '--lint': [{ name: 'clang-format', command: 'clang-format' }],
  '--asan': [{ name: 'cmake', command: 'cmake' }],
  '--prebuild': crossCompilers(),
}

/** For the other architecture that has binaries; readelf, from binutils, comes with every compiler. */
function crossCompilers() {
  const [name, command] =
    process.arch === 'arm64'
      ? ['g++-x86-64-linux-gnu', 'x86_64-linux-gnu-g++']
      : ['g++-aarch64-linux-gnu', 'aarch64-linux-gnu-g++']
  return isDebian ? [{ name, command }] : []
}

/** @param {string} message */
const say = (message) => process.stderr.write(`setup: ${message}\n`)

/**
 * @param {string} message
 * @returns {never}
 */
const giveUp = (message) => {
  say(message)
  process.exit(1)
}

/**
 * Runs one step with its output on stderr, and ends everything if it fails.
 * @param {string} what
 * @param {[string, ...string[]][]} commands
 */
const step = (what, commands) => {
  const start = performance.now()
  say(`${what} ...`)
  for (const [command, ...args] of commands) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const result = spawnSync(command, args, { cwd: root, env, stdio: ['ignore', process.stderr, process.stderr] })
    if (result.error) giveUp(`cannot run ${command}: ${result.error.message}`)
    if (result.status !== 0)
      giveUp(`${what} failed: ${[command, ...args].join(' ')} ended with ${result.status ?? result.signal}`)
  }
  say(`${what}: done in ${((performance.now() - start) / 1000).toFixed(1)} s`)
}

const checkNode = () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const [wantedMajor = 0, wantedMinor = 0] = requiredNode
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return
  giveUp(`Node.js ${requiredNode.join('.')} or newer is needed, this is ${process.versions.node}`)
}

/** @param {string} command */
const onPath = (command) =>
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'].some((directory) =>
    existsSync(path.join(directory, command)),
  )

/** @param {SystemPackage[]} packages */
const missingOf = (packages) => {
  if (!isDebian) return packages.filter(({ command }) => !onPath(command))
  const names = packages.map(({ name }) => name)
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query has the same syntax for its fields.
  const format = '${binary:Package} ${db:Status-Status}\n'
  // Its exit code only says that one of them is unknown.
  const query = spawnSync('dpkg-query', ['-W', '-f', format, ...names], {
    encoding: 'utf8',
  })
  const installed = new Set()
  for (const line of query.stdout.split('\n')) {
    const [name = '', status] = line.split(' ')
    if (status === 'installed') installed.add(name.replace(/:.*/, ''))
  }
  return packages.filter(({ name }) => !installed.has(name))
}

const installSystemPackages = () => {
  const devices = ['/dev/vhost-net', ...(process.argv.includes('--guests') ? ['/dev/kvm'] : [])]
  // The tests check the lab even where it is not needed to run them; a comparison with QEMU needs QEMU.
  const usesLab =
    !devices.every((device) => existsSync(device)) ||
    [
      'test',
      'test:asan',
      'lab',
      'compare',
      'mutants',
      'stress',
      'faults',
      'fuzz',
      'soak',
      'bench',
      'check:nodes',
    ].includes(process.env.npm_lifecycle_event ?? '')
  const chosen = process.argv.slice(2).flatMap((option) => optionalPackages[option] ?? [])
  const wanted = [...buildPackages, ...(usesLab ? labPackages : []), ...chosen]
  const missing = [...new Set(missingOf(wanted).map(({ name }) => name))]
  if (missing.length === 0) return
  if (!isDebian) giveUp(`this needs what Debian calls ${missing.join(', ')}: install it and try again`)
  if (process.getuid?.() !== 0) {
    giveUp(
      `missing packages; as root run: apt-get update && apt-get install --no-install-recommends ${missing.join(' ')}`,
    )
  }
  step(`installing ${missing.join(' ')}`, [
    ['apt-get', 'update', '-q'],
    ['apt-get', 'install', '-q', '-y', '--no-install-recommends', ...missing],
  ])
}

const installNodeModules = () => {
  const lock = createHash('sha256')
    .update(readFileSync(path.join(root, 'package-lock.json')))
    .digest('hex')
  const stamp = path.join(root, 'node_modules', '.vhost-net-lock')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return
  step('installing npm packages', [['npm', 'ci', '--ignore-scripts']])
  writeFileSync(stamp, lock)
}

/** @param {string} file */
const modified = (file) => statSync(file).mtimeMs

const buildAddon = () => {
  const addon = path.join(root, 'build', 'Release', 'vhost_net.node')
  const entries = readdirSync(path.join(root, 'native'), { recursive: true, withFileTypes: true })
  const sources = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name))
  const inputs = [path.join(root, 'binding.gyp'), ...sources]
  if (existsSync(addon) && inputs.every((file) => modified(file) < modified(addon))) return
  step('building the native addon', [[process.execPath, path.join('scripts', 'build-native.mjs')]])
}

const compile = () => {
  step('compiling TypeScript', [
    [process.execPath, path.join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json'],
    [process.execPath, path.join('dist', 'scripts', 'bundle.js')],
  ])
}

const setUp = () => {
  installSystemPackages()
  installNodeModules()
  buildAddon()
  compile()
}

/**
 * Runs this script again, holding a lock on its file: two builds in one tree would delete each other's output.
 * @param {string[]} options
 */
const runLocked = (...options) => {
  const self = fileURLToPath(import.meta.url)
  const args = [...options, '--close', self, process.execPath, self, ...process.argv.slice(2)]
  return spawnSync('flock', args, { stdio: 'inherit', env: { ...process.env, VHOST_NET_SETUP_LOCKED: '1' } })
}

/** No exit code of this script, so that flock's own can be told from it. */
const busy = 75

const setUpAlone = () => {
  let result = runLocked('--nonblock', '--conflict-exit-code', String(busy))
  if (result.status === busy) {
    say('another set-up of this checkout is running; waiting for its end')
    result = runLocked()
  }
  // Only Linux has flock, and only there is something built that needs it.
  if (result.error) setUp()
  else process.exitCode = result.status ?? 1
}

checkNode()
if (process.env.VHOST_NET_SETUP_LOCKED === '1') setUp()
else setUpAlone()
