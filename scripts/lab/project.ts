// Where the project and the lab's own files are.

import path from 'node:path'

/** The project's root directory. This file is compiled to dist/scripts/lab/, three levels below it. */
export const projectRoot = path.resolve(import.meta.dirname, '../../..')

/** The lab's cache, which git ignores. Everything in it can be deleted at any time. */
export const cacheDirectory = path.join(projectRoot, '.lab')

/** Files of the lab that are not compiled: what runs inside the machine. */
export const guestFile = (name: string): string => path.join(projectRoot, 'scripts/lab', name)
