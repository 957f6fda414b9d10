// Plants one fault: a tree of its own, in which the fault's line is another.

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { Fault } from '../../test/mutants/fault.ts'
import { projectRoot } from '../lab/project.ts'
import { rebuildAddon } from './native.ts'
import { makeTree } from './tree.ts'
import type { Compiler } from './typescript.ts'

/** Where the line is, as an index; undefined where it is not there, or more than once. */
const find = ({ file, line }: Fault): { lines: string[]; index: number } | undefined => {
  const full = path.join(projectRoot, file)
  if (!existsSync(full)) return undefined
  const lines = readFileSync(full, 'utf8').split('\n')
  const index = lines.findIndex((each) => each.trim() === line)
  return index < 0 || lines.slice(index + 1).some((each) => each.trim() === line) ? undefined : { lines, index }
}

/** The line's number; undefined where it is not there, or more than once. */
export const lineNumberOf = (fault: Fault): number | undefined => {
  const found = find(fault)
  return found && found.index + 1
}

/**
 * Makes `root` the tree with the fault in it.
 * @throws {Error} where it cannot be planted
 */
export const plant = async (fault: Fault, root: string, compiler: Compiler, signal: AbortSignal): Promise<void> => {
  const found = find(fault)
  if (found === undefined) throw new Error(`the line is not in ${fault.file} exactly once: the code has moved on`)
  const { lines, index } = found
  const text = lines
    .with(
      index,
      (lines[index] as string).replace(fault.line, () => fault.faulty),
    )
    .join('\n')
  if (fault.file.startsWith('lib/')) {
    const compiled = `dist/${fault.file.replace(/\.ts$/, '.js')}`
    const script = compiler.compile(fault.file, text)
    if (script === readFileSync(path.join(projectRoot, compiled), 'utf8')) throw new Error('it changes nothing')
    makeTree(root, new Map([[fault.file, text] as const, [compiled, script] as const]))
  } else {
    makeTree(
      root,
      new Map<string, string | null>([
        [fault.file, text],
        ['build/Release/vhost_net.node', null],
      ]),
    )
    await rebuildAddon(root, fault.file, signal)
  }
}
