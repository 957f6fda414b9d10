// Rebuilds the addon of a tree with one changed source, by the commands that node-gyp's make has noted down.

import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { projectRoot } from '../lab/project.ts'

const buildDirectory = path.join(projectRoot, 'build')
const objects = 'Release/obj.target/vhost_net/native'
const notes = path.join(buildDirectory, 'Release/.deps')

const shell = promisify(execFile)

/** A file of make's notes: the command that made a target, and what that depends on. */
const readNote = (target: string): { command: string; dependencies: string[] } => {
  const [first = '', ...rest] = readFileSync(path.join(notes, `${target}.d`), 'utf8').split('\n')
  const command = first.slice(first.indexOf(':=') + 2).trim()
  return { command, dependencies: rest.join(' ').split(/[\s:\\]+/) }
}

const quoted = (file: string): string => `'${file.replaceAll("'", "'\\''")}'`

const run = async (command: string, signal: AbortSignal): Promise<void> => {
  try {
    await shell('/bin/sh', ['-c', command], { cwd: buildDirectory, signal, maxBuffer: 2 ** 26 })
  } catch (error) {
    if (signal.aborted) throw error
    const { stderr = '' } = error as { stderr?: string }
    throw new Error(`the compiler refuses it: ${/error: .*/.exec(stderr)?.[0] ?? stderr}`, { cause: error })
  }
}

/**
 * Compiles what depends on `file` anew, and links it with the project's other objects to the addon of the tree.
 * @throws {Error} where it does not compile
 */
export const rebuildAddon = async (root: string, file: string, signal: AbortSignal): Promise<void> => {
  const all = readdirSync(path.join(buildDirectory, objects), { recursive: true, encoding: 'utf8' })
  mkdirSync(path.join(root, 'build/Release'), { recursive: true })
  let link = readNote('Release/obj.target/vhost_net.node').command
  for (const object of all.filter((name) => name.endsWith('.o'))) {
    const target = path.join(objects, object)
    const { command, dependencies } = readNote(target)
    if (!dependencies.includes(`../${file}`)) continue
    const source = `native/${object.replace(/\.o$/, '.cc')}`
    const made = quoted(path.join(root, 'build', object.replaceAll('/', '-')))
    const compile = command
      .replace(`-o ${target} ../${source}`, `-o ${made} ${quoted(path.join(root, source))}`)
      .replace('-iquote../native', `-iquote${quoted(path.join(root, 'native'))}`)
      .replace(/-MMD -MF \S+/, '')
    await run(compile, signal)
    link = link.replace(target, made)
  }
  const addon = path.join(root, 'build/Release/vhost_net.node')
  await run(link.replace('-o Release/obj.target/vhost_net.node', `-o ${quoted(addon)}`), signal)
}
