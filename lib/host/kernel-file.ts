// What the kernel says in files of /proc and /sys.

import { readdirSync, readFileSync } from 'node:fs'
import { type Hints, systemCall } from '../binding/index.ts'

const hints: Hints = { EMFILE: 'Raise the limit of open files (ulimit -n): a queue pair takes 8.' }

/** @throws {SystemCallError} `ENOENT`, `ESRCH` where there is nothing any more, `EMFILE` */
export const readKernelFile = (file: string): string =>
  systemCall(() => readFileSync(file, 'utf8'), { subject: file, hints })

/** Names in a folder. @throws {SystemCallError} as {@link readKernelFile} */
export const listKernelFolder = (folder: string): string[] =>
  systemCall(() => readdirSync(folder), { subject: folder, hints })
