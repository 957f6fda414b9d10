// Runs every static check, one line each; what a failed one printed follows it. `--fix` rewrites what can be rewritten.

import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkLayers, readSources } from './check-layers.ts'

/** What is wrong, or nothing. */
type Check = () => string

const root = fileURLToPath(new URL('../../', import.meta.url))

const fix = process.argv.includes('--fix')

/** In this order, because the first ones explain the failures of the later ones. */
const CHECKS: Record<string, Check> = {
  biome: () => runNode('biome', 'check', '--error-on-warnings', ...(fix ? ['--write'] : [])),
  tsc: () => runNode('tsc', '--noEmit', '-p', 'tsconfig.json'),
  'clang-format': () =>
    run('clang-format', ...(fix ? ['-i'] : ['--dry-run', '-Werror']), ...nativeFiles(/\.(cc|c|h)$/), ...exampleFiles()),
  layers: () =>
    checkLayers(readSources(root))
      .map((v) => `${v.file}:${v.line}  ${v.message}`)
      .join('\n'),
  publint: () => runNode('publint', '--strict'),
  sources: () => checkSources(read('native/CMakeLists.txt'), read('binding.gyp'), nativeFiles(/\.(cc|c)$/)).join('\n'),
}

/** Where the two builds or the tree disagree about what is compiled. `onDisk` and the answers start at the root. */
export function checkSources(cmake: string, gyp: string, onDisk: readonly string[]): string[] {
  const lists = {
    'native/CMakeLists.txt': sourcesIn(cmake, /\bset\(SOURCES\s([^)]*)\)/).map((file) => `native/${file}`),
    'binding.gyp': sourcesIn(gyp, /'sources':\s*\[([^\]]*)\]/),
  }
  const problems: string[] = []
  for (const [name, listed] of Object.entries(lists)) {
    for (const file of onDisk) if (!listed.includes(file)) problems.push(`${name} does not list ${file}`)
    for (const file of listed) if (!onDisk.includes(file)) problems.push(`${name} lists ${file}, which does not exist`)
    if (listed.join() !== listed.toSorted().join()) problems.push(`${name} does not list its sources in order`)
  }
  return problems
}

function sourcesIn(build: string, list: RegExp): string[] {
  return list.exec(build)?.[1]?.match(/[\w./-]+\.(cc|c)\b/g) ?? []
}

/** Files of the addon, from the package root. */
export function nativeFiles(name: RegExp): string[] {
  const files = readdirSync(path.join(root, 'native'), { recursive: true, encoding: 'utf8' })
  return files
    .filter((file) => name.test(file))
    .map((file) => path.posix.join('native', file))
    .toSorted()
}

/** Programs in C that readers copy from, from the package root. */
function exampleFiles(): string[] {
  return readdirSync(path.join(root, 'examples/embed'))
    .filter((file) => file.endsWith('.c'))
    .map((file) => path.posix.join('examples/embed', file))
}

function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8')
}

function runNode(tool: string, ...args: string[]): string {
  return run(process.execPath, path.join('node_modules', '.bin', tool), ...args)
}

function run(command: string, ...args: string[]): string {
  const { error, status, signal, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  if (error !== undefined) return `${command} could not be run: ${error.message}`
  return status === 0 ? '' : `${stdout}${stderr}${command} ended with ${signal ?? status}`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, check] of Object.entries(CHECKS)) {
    const start = performance.now()
    const problems = check()
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    console.log(`${name.padEnd(14)}${(problems === '' ? 'ok' : 'failed').padEnd(6)}  ${seconds} s`)
    if (problems === '') continue
    console.log(problems)
    process.exitCode = 1
  }
}
