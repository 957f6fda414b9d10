// Which tests there are, found by loading their file: none is run.

import { existsSync } from 'node:fs'
import path from 'node:path'
import Mocha from 'mocha'
import { projectRoot } from './lab/project.ts'

/**
 * Full titles of the tests of a file such as `'unit/memory'`; none where it is not there. Of kernel tests those that
 * this machine's kernel has, which may be another than the lab's.
 */
export const titlesOf = async (test: string): Promise<ReadonlySet<string>> => {
  const titles = new Set<string>()
  const file = path.join(projectRoot, `dist/test/${test}.test.js`)
  if (!existsSync(file)) return titles
  const mocha = new Mocha()
  mocha.addFile(file)
  await mocha.loadFilesAsync()
  mocha.suite.eachTest((found) => titles.add(found.fullTitle()))
  return titles
}
