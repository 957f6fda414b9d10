// Checks every binary in prebuilds/: for the machine its folder names, an old enough libc, stripped, Node-API only.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** glibc of the oldest distribution we promise to run on: 2.34. */
const GLIBC = [2, 34] as const

const MACHINES: Record<string, string> = {
  'linux-x64': 'Advanced Micro Devices X86-64',
  'linux-arm64': 'AArch64',
}

/** libc in its parts, under glibc's names and musl's, and the unwinder, which node itself needs. */
const LIBRARIES =
  /^(lib(c|m|dl|pthread|rt)\.so\.\d+|libgcc_s\.so\.1|ld-linux-[\w-]+\.so\.\d+|libc\.so|libc\.musl-\w+\.so\.1)$/

/** What is wrong with a binary, given its folder in prebuilds/ and what `readelf -W -h -S -d --dyn-syms` says of it. */
export function checkBinary(folder: string, readelf: string): string[] {
  const problems: string[] = []
  const machine = /^\s*Machine:\s*(.+?)\s*$/m.exec(readelf)?.[1]
  if (machine === undefined) return ['is not an ELF file']
  if (machine !== MACHINES[folder]) problems.push(`is for ${machine}, but lies in ${folder}`)

  const leftover = /\s(\.symtab|\.debug_\w+)\s/.exec(readelf)?.[1]
  if (leftover !== undefined) problems.push(`is not stripped: it has ${leftover}`)

  for (const [, library = ''] of readelf.matchAll(/\(NEEDED\).*\[(.+)\]/g)) {
    if (!LIBRARIES.test(library)) problems.push(`needs ${library}`)
  }
  // Num Value Size Type Bind Visibility Section Name[@Version]; weak ones may stay undefined, so nobody misses them.
  for (const [, name = '', version] of readelf.matchAll(/ GLOBAL +\w+ +UND +([^\s@]+)(?:@+(\S+))?/g)) {
    const problem = checkImport(name, version)
    if (problem !== undefined) problems.push(problem)
  }
  return problems
}

function checkImport(name: string, version: string | undefined): string | undefined {
  if (/^(napi|node_api)_/.test(name)) return undefined
  // musl's symbols have no version: there the list of needed libraries has to do, and these come from none of them.
  if (version === undefined) return /^(_Z|uv_|v8)/.test(name) ? `imports ${name}, which is not Node-API` : undefined
  if (/^GCC_[34]\./.test(version)) return undefined
  const glibc = /^GLIBC_(\d+)\.(\d+)/.exec(version)
  if (glibc === null) return `imports ${name}@${version}, which is not of libc`
  const newer = Number(glibc[1]) - GLIBC[0] || Number(glibc[2]) - GLIBC[1]
  return newer > 0 ? `imports ${name}@${version}, newer than GLIBC_${GLIBC.join('.')}` : undefined
}

function readelf(file: string): string {
  const options = { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } } as const
  const { error, stdout } = spawnSync('readelf', ['-W', '-h', '-S', '-d', '--dyn-syms', file], options)
  if (error !== undefined) throw new Error('readelf could not be run; it comes with binutils', { cause: error })
  return stdout
}

/** What is wrong with the file, given its folder in prebuilds/. */
export function checkFile(folder: string, file: string): string[] {
  return checkBinary(folder, readelf(file))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const prebuilds = fileURLToPath(new URL('../../prebuilds/', import.meta.url))
  const entries = existsSync(prebuilds) ? readdirSync(prebuilds, { recursive: true, encoding: 'utf8' }) : []
  const binaries = entries.filter((entry) => entry.endsWith('.node')).toSorted()
  if (binaries.length === 0) console.log('prebuilds/ holds no binary: npm run prebuild makes one')
  let failed = binaries.length === 0
  for (const binary of binaries) {
    const problems = checkFile(path.dirname(binary), path.join(prebuilds, binary))
    console.log(`prebuilds/${binary}  ${problems.length === 0 ? 'ok' : 'failed'}`)
    for (const problem of problems) console.log(`  ${problem}`)
    failed ||= problems.length > 0
  }
  process.exitCode = failed ? 1 : 0
}
