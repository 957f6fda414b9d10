// Makes the `vhost-net` command that the package ships: the modules of each sub-command in a few files, since a guest waits
// while Node.js loads 150. Does nothing where it is newer than all of them. They are CommonJS without comments: Node.js
// needs a quarter more time for itself where the first module is an ES module, and V8 reads comments, too.

import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { rollup } from 'rollup'
import ts from 'typescript'
import { projectRoot } from './lab/project.ts'

const compiled = path.join(projectRoot, 'dist/lib')
const bin = path.join(projectRoot, 'dist/bin')
const entry = path.join(bin, 'vhost-net.cjs')

const changed = (file: string): number => statSync(file).mtimeMs

const modules = readdirSync(compiled, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'))
const inputs = [
  ...modules.map((name) => path.join(compiled, name)),
  path.join(projectRoot, 'node_modules/rollup/package.json'),
  fileURLToPath(import.meta.url),
]

if (!existsSync(entry) || inputs.some((file) => changed(file) >= changed(entry))) {
  rmSync(bin, { recursive: true, force: true })
  const bundle = await rollup({
    input: { 'vhost-net': path.join(compiled, 'cli/main.js') },
    external: [/^node:/],
    onLog: (_level, { message }) => {
      throw new Error(`rollup: ${message}`)
    },
  })
  const withoutComments = (code: string): string =>
    ts.transpileModule(code, { compilerOptions: { removeComments: true, target: ts.ScriptTarget.ESNext } }).outputText
  await bundle.write({
    dir: bin,
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name].cjs',
    plugins: [{ name: 'without comments', renderChunk: withoutComments }],
  })
  await bundle.close()
}
