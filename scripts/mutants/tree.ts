// Trees beside the project in which faults are planted: hard links of its files, but for those that differ.

import { linkSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { projectRoot } from '../lab/project.ts'

/** All that a test reads below the package's root. The packages it needs are found further up, in the project itself. */
const parts = ['README.md', 'binding.gyp', 'build/Release/vhost_net.node', 'dist', 'docs', 'examples', 'lib', 'native']

const isWanted = (file: string): boolean => !file.startsWith('dist/') || /\.js(on)?$/.test(file)

const filesOf = (part: string): string[] => {
  if (!statSync(path.join(projectRoot, part)).isDirectory()) return [part]
  const entries = readdirSync(path.join(projectRoot, part), { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(projectRoot, path.join(entry.parentPath, entry.name)))
}

/**
 * Makes a tree in which these files have this text. A link is never written to, so the project's own files stay as they
 * are; null leaves a file out.
 */
export const makeTree = (root: string, changed: ReadonlyMap<string, string | null>): void => {
  const made = new Set<string>()
  const place = (file: string): string => {
    const target = path.join(root, file)
    const directory = path.dirname(target)
    if (!made.has(directory)) mkdirSync(directory, { recursive: true })
    made.add(directory)
    return target
  }
  for (const file of ['package.json', ...parts.flatMap(filesOf)]) {
    if (isWanted(file) && !changed.has(file)) linkSync(path.join(projectRoot, file), place(file))
  }
  for (const [file, text] of changed) {
    if (text !== null) writeFileSync(place(file), text, { flag: 'wx' })
  }
}
