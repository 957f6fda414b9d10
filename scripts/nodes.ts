// `npm run check:nodes`: the prebuilt binary under every Node.js line that it promises to work with. Each is fetched into
// the lab's cache, loads the package on this machine, and moves real frames where vhost-net is. One that cannot be had is
// a failure too. `--json` is for programs.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runChild } from './lab/child.ts'
import { missingHere } from './lab/here.ts'
import { cacheDirectory, projectRoot } from './lab/project.ts'

/** From the oldest of package.json's engines on, the lines with long-term support. */
const lines = [20, 22, 24, 26]

const cache = path.join(cacheDirectory, 'nodes')
const out = path.join(cacheDirectory, 'out', 'nodes')

interface Row {
  line: number
  version?: string
  executable?: string
  /** Why it could not be had. */
  missing?: string
  /** The binary that was loaded, from the package root, or how loading failed. */
  loaded?: { ok: boolean; what: string }
  traffic?: { ok: boolean; what: string }
}

const say = (message: string): void => {
  process.stderr.write(`nodes: ${message}\n`)
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? ''

function npm(...args: string[]) {
  const { error, status, stdout, stderr } = spawnSync('npm', args, { cwd: cache, encoding: 'utf8' })
  if (error !== undefined) throw error
  return { ok: status === 0, stdout, stderr }
}

/** The newest release of the line, as the npm registry has it: a package whose bin/node is the program. */
function fetch(line: number): Row {
  const name = `node-linux-${process.arch}`
  const found = npm('view', `${name}@${line}`, 'version', '--json')
  const versions = found.ok && found.stdout.trim() !== '' ? [JSON.parse(found.stdout) as string | string[]].flat() : []
  const version = versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1)
  if (version === undefined) return { line, missing: `the registry has no ${name} of this line` }
  const directory = path.join(cache, version)
  const executable = path.join(directory, 'package', 'bin', 'node')
  if (!existsSync(executable)) {
    say(`fetching ${name} ${version}`)
    const packed = npm('pack', `${name}@${version}`, '--json')
    if (!packed.ok) return { line, version, missing: lastLine(packed.stderr) }
    const tarball = path.join(cache, (JSON.parse(packed.stdout) as [{ filename: string }])[0].filename)
    mkdirSync(directory, { recursive: true })
    const { status } = spawnSync('tar', ['-xf', tarball, '-C', directory, 'package/bin/node'], { stdio: 'inherit' })
    rmSync(tarball)
    if (status !== 0) throw new Error(`${tarball} could not be unpacked`)
  }
  return { line, version, executable }
}

function load(executable: string): { ok: boolean; what: string } {
  const { status, stdout, stderr } = spawnSync(executable, [path.join(projectRoot, 'scripts/smoke.mjs')], {
    cwd: projectRoot,
    encoding: 'utf8',
    env: { ...process.env, PREBUILDS_ONLY: '1' },
  })
  if (status !== 0) return { ok: false, what: stderr.trim() || `ended with ${status}` }
  return { ok: true, what: path.relative(projectRoot, (JSON.parse(stdout) as { addon: string }).addon) }
}

/** All of them after each other, so that the lab boots once. */
async function runTraffic(executables: readonly string[]): Promise<boolean> {
  const missing = missingHere()
  say(
    `traffic ${missing.length === 0 ? 'on this machine' : `in the lab, since this machine lacks ${missing.join(' and ')}`}`,
  )
  // $0 is the out folder; a line of progress keeps the lab from taking it for hung.
  const script = `
    for node; do
      version=$("$node" -p process.versions.node)
      echo "nodes: traffic on $version" >&2
      PREBUILDS_ONLY=1 "$node" dist/bin/vhost-net.cjs loop --json --pairs 2 --seconds 0.3 > "$0/$version.json" 2> "$0/$version.txt"
    done
    exit 0`
  const command = ['bash', '-c', script, out, ...executables]
  const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), '--out', out, '--']
  return (await runChild(missing.length === 0 ? command : [...lab, ...command], process.env)) === 0
}

interface Loop {
  kernel: { release: string }
  bulk: { txFrames: number; rxFrames: number }
  verdict: { ok: boolean; failures: string[] }
}

function traffic(version: string): { ok: boolean; what: string } {
  const file = path.join(out, `${version}.json`)
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  if (text === '') {
    const errors = path.join(out, `${version}.txt`)
    return { ok: false, what: existsSync(errors) ? readFileSync(errors, 'utf8').trim() : 'was not run' }
  }
  const { kernel, bulk, verdict } = JSON.parse(text) as Loop
  if (!verdict.ok) return { ok: false, what: verdict.failures.join('; ') }
  return { ok: true, what: `${bulk.txFrames} frames out, ${bulk.rxFrames} in, on ${kernel.release}` }
}

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } })

mkdirSync(cache, { recursive: true })
rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
say('building the prebuilt binary of this machine')
const prebuild = path.join(projectRoot, 'dist/scripts/prebuild.js')
const built = spawnSync(process.execPath, [prebuild, '--here'], { stdio: ['ignore', process.stderr, process.stderr] })
if (built.status !== 0) throw new Error('the binary could not be built')

const rows = lines.map(fetch)
for (const row of rows) if (row.executable !== undefined) row.loaded = load(row.executable)
const loading = rows.flatMap(({ executable, loaded }) => (executable !== undefined && loaded?.ok ? [executable] : []))
const ran = await runTraffic(loading)
for (const row of rows) if (row.loaded?.ok && row.version !== undefined) row.traffic = traffic(row.version)

if (values.json) {
  console.log(JSON.stringify(rows, null, 2))
} else {
  for (const { line, version = '', missing, loaded, traffic } of rows) {
    const state = (result: typeof loaded) =>
      result === undefined ? '-' : `${result.ok ? 'ok' : 'failed'}: ${result.what}`
    const what = missing ?? `loaded ${state(loaded)}   traffic ${state(traffic)}`
    console.log(`${String(line).padEnd(4)}${version.padEnd(10)}${what}`)
  }
}
if (!ran || rows.some(({ loaded, traffic }) => !loaded?.ok || !traffic?.ok)) process.exitCode = 1
