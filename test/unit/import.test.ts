// Importing the package opens nothing and works everywhere; the first use says where it cannot work.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const door = new URL('../../lib/index.js', import.meta.url).href
const spec = (source: string): string[] => ['--input-type=module', '--eval', source]
const run = async (source: string): Promise<unknown> =>
  JSON.parse((await promisify(execFile)(process.execPath, spec(source))).stdout)

/** What a process holds, as an expression. */
const held = `({
  files: readdirSync('/proc/self/fd').length,
  threads: readdirSync('/proc/self/task').length,
  addon: readFileSync('/proc/self/maps', 'utf8').includes('vhost_net.node'),
})`

describe('importing the package', () => {
  it('opens nothing, starts nothing and does not load the addon, which the first use does', async () => {
    // Importing takes the threads of libuv's pool, which Node.js makes at first use and keeps.
    const { before, after, used } = (await run(`
      import { readdirSync, readFileSync } from 'node:fs'
      import { stat } from 'node:fs/promises'
      await Promise.all(Array.from({ length: 4 }, () => stat('/')))
      const before = ${held}
      const { EventFd } = await import(${JSON.stringify(door)})
      const after = ${held}
      const event = EventFd.create()
      console.log(JSON.stringify({ before, after, used: ${held} }))
    `)) as Record<string, { files: number; threads: number; addon: boolean }>
    assert.deepEqual(after, before)
    assert.equal(after!.addon, false)
    assert.deepEqual(used, { ...after, files: after!.files + 1, addon: true })
  })

  it('sets nothing on globalThis and listens to nothing of the process', async () => {
    const { before, after } = (await run(`
      const state = () => ({
        globals: Object.getOwnPropertyNames(globalThis),
        listeners: process.eventNames().map((name) => [String(name), process.listenerCount(name)]),
      })
      const before = state()
      await import(${JSON.stringify(door)})
      console.log(JSON.stringify({ before, after: state() }))
    `)) as Record<'before' | 'after', unknown>
    assert.deepEqual(after, before)
  })

  for (const platform of ['darwin', 'win32', 'freebsd']) {
    it(`works on ${platform}, and the first use of anything native is refused there`, async () => {
      const uses = {
        'EventFd.create': 'EventFd.create()',
        'GuestMemory.allocate': 'GuestMemory.allocate({ size: 4096 })',
        'VhostNet.open': 'VhostNet.open()',
        'Tap.open': "Tap.open({ ifname: 'tap0' })",
        'RtNetlink.open': 'RtNetlink.open()',
      }
      const errors = (await run(`
        Object.defineProperty(process, 'platform', { value: '${platform}' })
        const { EventFd, GuestMemory, VhostNet, Tap, RtNetlink, UnsupportedError } = await import(${JSON.stringify(door)})
        const memory = GuestMemory.fromArrayBuffer(new ArrayBuffer(16))
        memory.write(0, Uint8Array.of(1))
        const errors = {}
        for (const [name, use] of Object.entries({
          ${Object.entries(uses)
            .map(([name, use]) => `'${name}': () => ${use},`)
            .join('\n')}
        })) {
          try {
            use()
          } catch (error) {
            const { code, message, hint } = error
            errors[name] = { unsupported: error instanceof UnsupportedError, code, message, hint }
          }
        }
        console.log(JSON.stringify(errors))
      `)) as Record<string, { unsupported: boolean; code: string; message: string; hint: string }>
      assert.deepEqual(Object.keys(errors), Object.keys(uses))
      for (const { unsupported, code, message, hint } of Object.values(errors)) {
        assert.ok(unsupported)
        assert.equal(code, 'ERR_PLATFORM')
        assert.match(message, new RegExp(`on Linux only, not on ${platform}`))
        assert.match(hint, /needs Linux/)
      }
    })
  }

  it('gives nothing by default: every export has a name', async () => {
    const exported = (await run(`
      console.log(JSON.stringify(Object.keys(await import(${JSON.stringify(door)}))))
    `)) as string[]
    assert.ok(!exported.includes('default'))
    for (const name of [
      'GuestMemory',
      'VhostNetBackend',
      'Driver',
      'Burst',
      'EventFd',
      'Tap',
      'VhostNet',
      'RtNetlink',
    ]) {
      assert.ok(exported.includes(name), name)
    }
    // What is for the package's own rooms only.
    for (const name of ['binding', 'interpose', 'systemCall', 'Teardown']) assert.ok(!exported.includes(name), name)
  })
})
