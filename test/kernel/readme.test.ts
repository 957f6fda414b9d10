// The README's examples, run as a reader would run them.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const example = (name: string): string => path.join(root, 'examples', name)

/** The README's blocks of JavaScript, in order. */
const shown = Array.from(
  readFileSync(path.join(root, 'README.md'), 'utf8').matchAll(/```js\n(.*?)```/gs),
  ([, block]) => block!,
)

/** What an example prints; it must print nothing else. */
async function run(name: string): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [example(name)])
  assert.equal(stderr, '')
  return stdout
}

describe("the README's examples", () => {
  it('begin with examples/arp.mjs without its first line', () => {
    assert.equal(shown[0], readFileSync(example('arp.mjs'), 'utf8').replace(/^.*\n/, ''))
  })

  it('go on with the loop of examples/echo.mjs', () => {
    assert.match(shown[1]!, /^for await \(.*\{\n.*\}\n$/s)
    assert.ok(readFileSync(example('echo.mjs'), 'utf8').includes(shown[1]!))
  })

  it("get the tap's MAC address from the host's kernel", async () => {
    assert.match(await run('arp.mjs'), /^192\.0\.2\.1 is at [0-9a-f]{12}\n$/)
  })

  it("send a datagram back to a socket of the host's", async () => {
    assert.equal(await run('echo.mjs'), '192.0.2.2 says hello\n')
  })
})
