// Checks that every file imports only what the room it lives in may know: the table below, and no cycles.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const everywhere = ['abi', 'errors', 'teardown', 'nearest', 'options', 'address']

/** Which rooms a room may import besides itself, from the bottom of the house to the top. */
const ROOMS: Record<string, readonly string[]> = {
  abi: [],
  errors: [],
  teardown: ['errors'],
  nearest: [],
  options: ['errors', 'nearest'],
  address: ['errors'],
  binding: [...everywhere],
  event: [...everywhere, 'binding'],
  memory: [...everywhere, 'binding'],
  host: [...everywhere, 'binding', 'event', 'memory'],
  virtio: [...everywhere, 'event', 'memory'],
  'backend contract': [...everywhere, 'event', 'memory', 'virtio'],
  backend: [...everywhere, 'event', 'memory', 'host', 'virtio', 'backend contract'],
  net: [...everywhere, 'memory', 'virtio', 'backend contract'],
  nic: [...everywhere, 'memory', 'virtio', 'backend contract', 'backend', 'net'],
  pci: [...everywhere, 'event'],
  transport: [...everywhere, 'event', 'virtio', 'pci'],
  driver: [...everywhere, 'binding', 'event', 'memory', 'virtio'],
  kvm: [...everywhere, 'host', 'event'],
  network: [...everywhere, 'host'],
  interop: [...everywhere],
}
const below = Object.keys(ROOMS)
ROOMS.index = below
ROOMS.vmm = [...below, 'index']
ROOMS.cli = [...below, 'index', 'vmm']

/** Rooms of which a room may use the types only: interop turns other people's words into our options. */
const TYPES_ONLY: Record<string, readonly string[]> = {
  interop: ['memory', 'net', 'nic', 'backend contract', 'backend', 'transport', 'kvm', 'network'],
}

/** Headers of Node.js: native/sys must also build into programs that have no JavaScript. */
const NODE_HEADER = /(^|\/)(napi|napi-inl|node|node_api|node_version|js_native_api\w*|uv|v8[\w-]*)\.h$/

export interface Violation {
  file: string
  line: number
  message: string
}

interface Import {
  specifier: string
  line: number
  typeOnly: boolean
}

/** Every violation in these files: path from the package root -> text. Sorted by file and line. */
export function checkLayers(files: ReadonlyMap<string, string>): Violation[] {
  const violations: Violation[] = []
  const graph = new Map<string, { to: string; line: number }[]>()
  for (const [file, text] of files) {
    if (!file.endsWith('.ts')) {
      violations.push(...checkIncludes(file, text, files))
      continue
    }
    const edges: { to: string; line: number }[] = []
    graph.set(file, edges)
    if (file.startsWith('lib/') && roomOf(file) === undefined) {
      violations.push({ file, line: 1, message: 'is in no room: add it to the table in scripts/check-layers.ts' })
      continue
    }
    for (const found of importsOf(file, text)) {
      const to = resolve(file, found.specifier, files)
      const message = forbidden(file, found, to)
      if (message !== undefined) violations.push({ file, line: found.line, message })
      if (files.has(to)) edges.push({ to, line: found.line })
    }
  }
  violations.push(...cycles(graph))
  return violations.sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line)
}

function importsOf(file: string, text: string): Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found: Import[] = []
  const add = (node: ts.Node | undefined, typeOnly: boolean) => {
    if (node === undefined || !ts.isStringLiteralLike(node)) return
    const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1
    found.push({ specifier: node.text, line, typeOnly })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node))
      add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword)
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly)
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true)
    else if (ts.isCallExpression(node) && isImportCall(node)) add(node.arguments[0], false)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

function isImportCall({ expression }: ts.CallExpression): boolean {
  return expression.kind === ts.SyntaxKind.ImportKeyword || /^require(\.resolve)?$/.test(expression.getText())
}

/** The file a specifier names, as a path from the package root; a bare specifier stays as it is. */
function resolve(from: string, specifier: string, files: ReadonlyMap<string, string>): string {
  if (specifier === 'vhost-net/package.json') return 'package.json'
  if (specifier === 'vhost-net') return 'lib/index.ts'
  if (specifier.startsWith('vhost-net/')) return `lib/${specifier.slice('vhost-net/'.length)}/index.ts`
  if (!specifier.startsWith('.')) return specifier
  const target = path.posix.join(path.posix.dirname(from), specifier)
  const source = target.replace(/\.js$/, '.ts')
  return files.has(source) ? source : target
}

function forbidden(file: string, { specifier, typeOnly }: Import, to: string): string | undefined {
  const from = roomOf(file)
  const addon = specifier.endsWith('.node') || specifier === 'node-gyp-build'
  if (addon && from !== 'binding') return `${from ?? file} may not import the addon, only binding may`
  if (from === undefined) return undefined
  if (from === 'abi') return `room abi may not import anything (${specifier})`
  const outside = /^(test|scripts|examples)\//.exec(to)
  if (outside !== null) return `room ${from} may not import ${outside[1]}`
  if (!to.startsWith('lib/')) return undefined
  const room = roomOf(to) ?? to
  if (room === from || ROOMS[from]?.includes(room)) return undefined
  const types = TYPES_ONLY[from]?.includes(room)
  if (types && typeOnly) return undefined
  return `room ${from} may not import room ${room}${types ? ', except with import type' : ''}`
}

function roomOf(file: string): string | undefined {
  const [lib, name, ...rest] = file.split('/')
  if (lib !== 'lib' || name === undefined) return undefined
  // The contract is what lies directly in lib/backend; each backend has a folder of its own, and index.ts joins both.
  if (name === 'backend' && rest.length === 1 && rest[0] !== 'index.ts') return 'backend contract'
  const room = rest.length === 0 ? name.replace(/\.ts$/, '') : name
  return Object.hasOwn(ROOMS, room) ? room : undefined
}

function checkIncludes(file: string, text: string, files: ReadonlyMap<string, string>): Violation[] {
  if (!file.startsWith('native/sys/')) return []
  const violations: Violation[] = []
  for (const [index, line] of text.split('\n').entries()) {
    const header = /^\s*#\s*include\s*[<"]([^>"]+)[>"]/.exec(line)?.[1]
    if (header === undefined) continue
    const message = forbiddenInSys(file, header, files)
    if (message !== undefined) violations.push({ file, line: index + 1, message })
  }
  return violations
}

function forbiddenInSys(file: string, header: string, files: ReadonlyMap<string, string>): string | undefined {
  if (NODE_HEADER.test(header)) return `room native/sys may not import Node.js (${header})`
  const target = [path.posix.dirname(file), 'native']
    .map((dir) => path.posix.join(dir, header))
    .find((to) => files.has(to))
  if (target === undefined || target.startsWith('native/sys/')) return undefined
  return `room native/sys may not import room ${path.posix.dirname(target)}`
}

/** One violation per import that closes a cycle. Imports of types count: two files that need each other are one. */
function cycles(graph: ReadonlyMap<string, { to: string; line: number }[]>): Violation[] {
  const violations: Violation[] = []
  const done = new Set<string>()
  const trail: string[] = []
  const visit = (file: string): void => {
    trail.push(file)
    for (const { to, line } of graph.get(file) ?? []) {
      const start = trail.indexOf(to)
      if (start >= 0) violations.push({ file, line, message: `cycle: ${[...trail.slice(start), to].join(' -> ')}` })
      else if (!done.has(to)) visit(to)
    }
    trail.pop()
    done.add(file)
  }
  for (const file of graph.keys()) if (!done.has(file)) visit(file)
  return violations
}

/** The files of the package at `root` that the rules are about. */
export function readSources(root: string): Map<string, string> {
  const files = new Map<string, string>()
  for (const folder of ['lib', 'test', 'scripts', 'examples', 'native']) {
    if (!existsSync(path.join(root, folder))) continue
    for (const entry of readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(ts|cc|c|h)$/.test(entry.name)) continue
      const file = path.join(entry.parentPath, entry.name)
      files.set(path.relative(root, file), readFileSync(file, 'utf8'))
    }
  }
  return files
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const violations = checkLayers(readSources(fileURLToPath(new URL('../../', import.meta.url))))
  for (const { file, line, message } of violations) console.log(`${file}:${line}  ${message}`)
  process.exitCode = violations.length === 0 ? 0 : 1
}
