// Mocha root hook: no test file leaves open files, threads, vhost workers, mappings or network devices behind.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import type { Context, RootHookObject, Suite } from 'mocha'
import { diffSoon, type Resources, resources } from '../resources.ts'

let before: Resources = new Map()

/** What Node.js makes at first use and keeps: the threads of libuv's pool, and the pipe that tells of ended children. */
async function warmUp(): Promise<void> {
  await Promise.all(Array.from({ length: 4 }, () => stat('/')))
  await promisify(execFile)(process.execPath, ['--version'])
}

async function compare(where: string): Promise<void> {
  const left = await diffSoon(before)
  // The next file is not blamed for it.
  before = resources()
  assert.equal(left.length, 0, `${where} did not leave things as they were:\n  ${left.join('\n  ')}`)
}

// A comparison is added behind all hooks of each of a file's outermost suites. What is there then is what the next one
// starts with, since nothing runs in between.
function guard(suite: Suite): void {
  const file = suite.file === undefined ? '' : ` of ${path.relative(process.cwd(), suite.file)}`
  suite.afterAll('leaves nothing behind', async function () {
    this.timeout(30_000)
    await compare(`"${suite.title}"${file}`)
  })
}

export const mochaHooks: RootHookObject = {
  async beforeAll(this: Context) {
    this.timeout(30_000)
    await warmUp()
    before = resources()
    for (const suite of this.test?.parent?.suites ?? []) guard(suite)
  },
  async afterAll(this: Context) {
    this.timeout(30_000)
    await compare('the tests outside of any suite')
  },
}
