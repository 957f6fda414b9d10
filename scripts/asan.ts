// `npm run test:asan`: the addon built with AddressSanitizer and UndefinedBehaviorSanitizer, under the unit tests and, in
// the lab, the core of the kernel tests. Any report about the addon fails it, whichever process it came from. Takes the
// options of `npm test`.

import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { runChild } from './lab/child.ts'
import { cacheDirectory, projectRoot } from './lab/project.ts'

/** Takes the package's place for node-gyp-build, which looks for build/Release below it. */
const substitute = path.join(projectRoot, 'build', 'asan')

/** In the lab's out folder, the one that is written to from inside as well. */
const reports = path.join(cacheDirectory, 'out', 'asan')

const say = (message: string): void => {
  process.stdout.write(`asan: ${message}\n`)
}

/** Where a frame of a stack is ours: by its source, or by the module where it has none. */
const ours = /\/native\/(?:sys|wrap|addon)|\/vhost_net\.node|\/node-addon-api\//

/** Node.js as it is installed has no sources, its frames name the program. */
const nodes = /\(\S*\/node\+0x/

/**
 * The reports that concern the addon. A leak is whose code allocated it: Node.js and V8 leave memory to the end of the
 * process (napi_create_external's 40 bytes, for one). Suppressing `node` would match every stack, ours included, since
 * Node.js calls all of them.
 */
export function concerning(log: string): string[] {
  const [beforeLeaks = '', ...leaks] = log.split(/^(?=(?:Direct|Indirect) leak of )/m)
  const errors = /runtime error: |ERROR: (?:Address|UndefinedBehavior)Sanitizer/.test(beforeLeaks) ? [beforeLeaks] : []
  const lost = leaks
    .map((leak) => leak.split(/^SUMMARY: /m)[0] ?? '')
    .filter((leak) => {
      const owner = leak.split('\n').find((frame) => ours.test(frame) || nodes.test(frame))
      return owner !== undefined && ours.test(owner)
    })
  return [...errors, ...lost].map((report) => report.trim())
}

function build(): void {
  const cmakeJs = path.join(projectRoot, 'node_modules', '.bin', 'cmake-js')
  const output = path.join(substitute, 'build')
  const args = [cmakeJs, 'compile', '-d', 'native', '-O', output, '--CDSANITIZE=address,undefined']
  const { error, status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: projectRoot, encoding: 'utf8' })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`the addon could not be built with sanitizers:\n${stdout}${stderr}`)
}

/** A library of the compiler that the addon was built with. */
function runtimeLibrary(name: string): string {
  const { error, stdout } = spawnSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' })
  if (error !== undefined) throw error
  const file = stdout.trim()
  if (!path.isAbsolute(file)) throw new Error(`g++ has no ${name}`)
  return file
}

const joined = (settings: Record<string, string | number>): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name}=${value}`)
    .join(':')

/** For every process of the tests. */
function environment(): Record<string, string> {
  const log_path = path.join(reports, 'report')
  return {
    VHOST_NET_PREBUILD: substitute,
    // The runtimes must come before the libraries that they intercept, and node is linked with neither.
    LD_PRELOAD: ['libasan.so', 'libubsan.so'].map(runtimeLibrary).join(':'),
    // No exit code, since leaks of Node.js itself would always set it: the files are judged. Errors abort.
    ASAN_OPTIONS: joined({ log_path, abort_on_error: 1, detect_leaks: 1, detect_stack_use_after_return: 1 }),
    LSAN_OPTIONS: joined({ exitcode: 0, print_suppressions: 0 }),
    UBSAN_OPTIONS: joined({ log_path, abort_on_error: 1, print_stacktrace: 1 }),
  }
}

async function main(): Promise<number> {
  rmSync(reports, { recursive: true, force: true })
  mkdirSync(reports, { recursive: true })
  // Some tests run processes as somebody else.
  chmodSync(reports, 0o777)
  say('building the addon with sanitizers')
  build()
  const variables = Object.entries(environment()).flatMap(([name, value]) => ['--env', `${name}=${value}`])
  const test = path.join(projectRoot, 'dist/scripts/test.js')
  const chosen = process.argv.length > 2 ? process.argv.slice(2) : ['--core']
  const status = await runChild([process.execPath, test, ...chosen, ...variables], process.env)
  const found = readdirSync(reports).flatMap((name) => concerning(readFileSync(path.join(reports, name), 'utf8')))
  for (const report of found) say(report)
  say(`${found.length} reports of the sanitizers`)
  return status === 0 && found.length > 0 ? 1 : status
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main()
