// The README's example, run as a reader would run it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const example = path.join(root, 'examples', 'arp.mjs')

describe("the README's example", () => {
  it('is examples/arp.mjs without its first line', () => {
    const readme = readFileSync(path.join(root, 'README.md'), 'utf8')
    const shown = /```js\n(.*?)```/s.exec(readme)?.[1]
    assert.equal(shown, readFileSync(example, 'utf8').replace(/^.*\n/, ''))
  })

  it("gets the tap's MAC address from the host's kernel", async () => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [example])
    assert.match(stdout, /^192\.0\.2\.1 is at [0-9a-f]{12}\n$/)
    assert.equal(stderr, '')
  })
})
