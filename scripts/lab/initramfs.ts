// The first root of the machine: busybox, the modules that reach the host's files, /init, and the job to do.

import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { exitCodes, LabError } from './failure.ts'
import type { Kernel } from './kernels.ts'
import { bootModuleFiles } from './modules.ts'
import { NewcArchive } from './newc.ts'
import { guestFile, projectRoot } from './project.ts'

/** The applets that init.sh calls. */
const applets = ['cat', 'cp', 'insmod', 'ln', 'mkdir', 'mount', 'sh', 'switch_root', 'umount', 'uname']

/** What the machine shall do: plain data, which no shell on the way reads as code. */
export interface Job {
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** The folder that is writable and shared with the host, at its own path. */
  readonly outDirectory: string
  /** Present when the command gets a terminal instead of streams. */
  readonly terminal: { readonly rows: number; readonly columns: number } | undefined
}

const findBusybox = (): string => {
  const file = ['/bin/busybox', '/usr/bin/busybox'].find((candidate) => existsSync(candidate))
  if (file === undefined) throw new LabError(exitCodes.notReady, 'busybox is missing: install busybox-static')
  return file
}

/** The part that depends on the kernel and on the lab alone. It is small enough to be made anew for every run. */
const baseArchive = async (kernel: Kernel): Promise<Buffer> => {
  const archive = new NewcArchive()
  for (const directory of ['proc', 'sys', 'dev', 'lower', 'layers', 'keep', 'root']) archive.directory(directory)
  archive.file('bin/busybox', await readFile(findBusybox()))
  for (const applet of applets) archive.symlink(`bin/${applet}`, 'busybox')
  archive.file('init', await readFile(guestFile('init.sh')))
  archive.file('lab/start', await readFile(guestFile('start.sh')))
  const modules = await bootModuleFiles(kernel.root, kernel.release)
  const names = modules.map((file) => `lab/${path.basename(file)}`)
  for (const [index, file] of modules.entries()) archive.file(names[index] as string, await readFile(file))
  archive.file('lab/boot-modules', names.map((name) => `/${name}\n`).join(''))
  return archive.finish()
}

const jobArchive = (kernel: Kernel, job: Job): Buffer => {
  const archive = new NewcArchive()
  const list = (items: readonly string[]): string => items.map((item) => `${item}\0`).join('')
  archive.file('lab/argv', list(job.command))
  archive.file('lab/environment', list(Object.entries(job.environment).map(([name, value]) => `${name}=${value}`)))
  archive.file('lab/project', projectRoot)
  archive.file('lab/out', job.outDirectory)
  archive.file('lab/modules', path.join(kernel.root, 'lib/modules', kernel.release))
  if (job.terminal !== undefined) archive.file('lab/terminal', `${job.terminal.rows} ${job.terminal.columns}`)
  return archive.finish()
}

/** Writes the archive for one run to `file`: the kernel unpacks both parts, one after the other. */
export const writeInitramfs = async (kernel: Kernel, job: Job, file: string): Promise<void> => {
  await writeFile(file, Buffer.concat([await baseArchive(kernel), jobArchive(kernel, job)]))
}
