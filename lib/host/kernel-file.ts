// What the kernel says, and is told, in files of /proc and /sys.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type Hints, systemCall } from '../binding/index.ts'

const hints: Hints = {
  EMFILE: 'Raise the limit of open files (ulimit -n): a queue pair takes 8.',
  EACCES: 'It takes root, in the user namespace that owns the network namespace.',
  EROFS: 'A container has it read-only: set it outside, or mount /proc/sys to be written.',
}

/** @throws {SystemCallError} `ENOENT`, `ESRCH` where there is nothing any more, `EMFILE` */
export const readKernelFile = (file: string): string =>
  systemCall(() => readFileSync(file, 'utf8'), { subject: file, hints })

/** Names in a folder. @throws {SystemCallError} as {@link readKernelFile} */
export const listKernelFolder = (folder: string): string[] =>
  systemCall(() => readdirSync(folder), { subject: folder, hints })

/** @throws {SystemCallError} `ENOENT`, `EACCES`, `EROFS`, `EINVAL`, `EMFILE` */
export const writeKernelFile = (file: string, text: string): void =>
  // Opened to be written alone: a name that is not there is not made.
  systemCall(() => writeFileSync(file, text, { flag: 'r+' }), { subject: file, hints })
