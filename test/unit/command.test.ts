// The command line of `vhost-net`: what is said before anything is opened.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { run } from '../support/command.ts'

describe('vhost-net on the command line', () => {
  it('refuses wrong usage with exit code 2, naming the option', async () => {
    const wrong = [
      [['loop', '--pairs', '257'], '--pairs'],
      [['loop', '--bogus'], '--bogus'],
      [['loop', '--ifname', 'a-name-too-long-for-it'], '--ifname'],
      [['loop', '--size', '1473'], '--size'],
      [['lop'], 'lop'],
      [['--bogus'], '--bogus'],
      [[], 'command'],
    ] as const
    for (const [args, named] of wrong) {
      const { code, stdout, stderr } = await run(...args)
      assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, args.join(' '))
      const [first = ''] = stderr.split('\n')
      assert.ok(first.startsWith('vhost-net: ') && first.includes(named), first)
      assert.match(stderr, /^Usage: vhost-net /m)
      assert.ok(!stderr.includes('    at '), 'no stack')
    }
  })

  it('answers --help and --version', async () => {
    const { version } = JSON.parse(
      readFileSync(new URL('package.json', new URL('../../../', import.meta.url)), 'utf8'),
    ) as { version: string }
    assert.equal((await run('--version')).stdout, `${version}\n`)
    assert.match((await run('--help')).stdout, /^Usage: vhost-net COMMAND/)
    const help = await run('loop', '--help')
    assert.equal(help.code, 0)
    assert.match(help.stdout, /--pairs N/)
  })
})
