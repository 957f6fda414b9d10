// The package as users get it: packed, installed into an empty project without a script and without a compiler, used.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { installPacked, type Packed } from '../../scripts/install-packed.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const run = promisify(execFile)

interface Prebuilt {
  made: boolean
  file: string
}

describe('the package', function () {
  this.timeout('5m')
  let project: string
  let packed: Packed
  let prebuilt: string
  /** Node.js is all there is on the path. */
  let environment: NodeJS.ProcessEnv

  before('prebuilds for this machine, packs and installs', async () => {
    const { stdout } = await run(process.execPath, [path.join(root, 'dist/scripts/prebuild.js'), '--here', '--json'])
    const [result] = JSON.parse(stdout) as [Prebuilt]
    assert.ok(result.made)
    prebuilt = result.file
    project = await mkdtemp(path.join(tmpdir(), 'vhost-net-package-'))
    packed = await installPacked(project, '--ignore-scripts')
    await mkdir(path.join(project, 'bin'))
    await symlink(process.execPath, path.join(project, 'bin/node'))
    environment = { PATH: path.join(project, 'bin'), PREBUILDS_ONLY: '1' }
  })

  after(() => rm(project, { recursive: true, force: true }))

  const manifest = async (directory: string) =>
    JSON.parse(await readFile(path.join(directory, 'package.json'), 'utf8')) as { version: string }

  const installed = (...parts: string[]) => path.join(project, 'node_modules', ...parts)

  it('has what users need and nothing else', () => {
    const names = packed.files.map((file) => file.path)
    for (const name of [
      'package.json',
      'README.md',
      'LICENSE',
      'CHANGELOG.md',
      'binding.gyp',
      'native/addon.cc',
      'scripts/build-native.mjs',
      'dist/lib/index.js',
      'dist/lib/index.d.ts',
      'dist/bin/vhost-net.cjs',
      prebuilt,
    ]) {
      assert.ok(names.includes(name), name)
    }
    const known =
      /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|binding\.gyp|scripts\/build-native\.mjs)$|^(lib|dist\/lib|dist\/bin|native|prebuilds)\//
    assert.deepEqual(
      names.filter((name) => !known.test(name)),
      [],
    )
    assert.ok(packed.size < 2e6, `${packed.size} bytes`)
  })

  it('works by import and by require, with the prebuilt binary', async () => {
    const script = path.join(project, 'smoke.mjs')
    await copyFile(path.join(root, 'scripts/smoke.mjs'), script)
    const { stdout } = await run(process.execPath, [script], { cwd: project, env: environment })
    const { node, addon } = JSON.parse(stdout) as { node: string; addon: string }
    assert.equal(node, process.versions.node)
    assert.equal(addon, installed('vhost-net', prebuilt))
  })

  it('has a command that answers', async () => {
    const command = installed('.bin/vhost-net')
    // Its first line names env, which is not on the path.
    const answer = async (option: string) =>
      (await run(process.execPath, [command, option], { env: environment })).stdout
    assert.equal(await answer('--version'), `${(await manifest(root)).version}\n`)
    assert.match(await answer('--help'), /^Usage: vhost-net COMMAND/)
    const { stdout } = await run(process.execPath, [command, 'run', '--help'], { env: environment })
    assert.match(stdout, /^Usage: vhost-net run/)
  })
})
