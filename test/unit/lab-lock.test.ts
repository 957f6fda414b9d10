// Who may do what only so many can do at a time: nobody is forgotten, whoever ends and however.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { alone, type Held, hold } from '../../scripts/lab/lock.ts'
import { projectRoot } from '../../scripts/lab/project.ts'

describe('the lock of a checkout', () => {
  // Of this run: another one may be testing.
  const places = [0, 1].map((place) => `test-${process.pid}-${place}`)

  it('has a place for each of so many, and the next one waits for whoever ends first', async () => {
    const first = await hold(places, 'both are taken')
    const second = await hold(places, 'both are taken')
    assert.deepEqual([first.name, second.name], places)
    const third = hold(places, 'both are taken')
    const got: Held[] = []
    void third.then((held) => got.push(held))
    for (let turn = 0; turn < 20; turn++) await setImmediate()
    assert.deepEqual(got, [])
    second.letGo()
    const held = await third
    assert.equal(held.name, second.name)
    for (const each of [first, held]) each.letGo()
  })

  it('is left by a process that is killed', async () => {
    const [place = ''] = places
    const lock = pathToFileURL(path.join(projectRoot, 'dist/scripts/lab/lock.js')).href
    const script = `const { hold } = await import(${JSON.stringify(lock)})
      await hold([${JSON.stringify(place)}], '')
      process.stdout.write('held')
      setInterval(() => {}, 1000)`
    const other = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(other, 'close')
    assert.equal(String((await once(other.stdout, 'data'))[0]), 'held')
    const waiting = hold([place], 'it is taken')
    other.kill('SIGKILL')
    ;(await waiting).letGo()
    await ended
  })

  it('lets one at a time do what is done alone, also behind one that fails', async () => {
    const [place = ''] = places
    const log: string[] = []
    const work = (name: string) => async () => {
      log.push(`${name} begins`)
      await setImmediate()
      log.push(`${name} ends`)
      if (name === 'a') throw new Error('a failed')
    }
    const failing = assert.rejects(alone(place, work('a')), /a failed/)
    await Promise.all([failing, alone(place, work('b')), alone(place, work('c'))])
    assert.deepEqual(log.slice(0, 2), ['a begins', 'a ends'])
    for (let at = 0; at < log.length; at += 2) assert.equal(log[at + 1], log[at]?.replace('begins', 'ends'))
    assert.equal(log.length, 6)
  })
})
