// The lab's own tests: every way in which a run can end must be told apart, and nothing may be left behind.

import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { exitCodes } from '../../scripts/lab/failure.ts'
import { defaultKernel, kernelNames } from '../../scripts/lab/kernels.ts'
import { projectRoot } from '../../scripts/lab/project.ts'
import { runDirectory } from '../../scripts/lab/run.ts'

const main = path.join(projectRoot, 'dist/scripts/lab/main.js')

/** A lab in progress, with what it has printed so far. */
class Lab {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #ended: Promise<unknown>
  stdout = ''
  stderr = ''

  constructor(...args: readonly string[]) {
    this.#child = spawn(process.execPath, [main, ...args], { cwd: projectRoot })
    this.#child.stdin.end()
    this.#child.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.stdout += text
    })
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.#ended = once(this.#child, 'close')
  }

  /** Resolves once a stream contains a match, which is handed back. */
  async printed(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this[stream])
      if (match !== null) return match
      const more = await Promise.race([once(this.#child[stream], 'data'), this.#ended.then(() => undefined)])
      const last = pattern.exec(this[stream])
      if (more === undefined && last === null) assert.fail(`the lab ended without ${pattern}: ${this.stderr}`)
    }
  }

  async qemu(): Promise<number> {
    return Number((await this.printed('stderr', /QEMU's pid is (\d+)/))[1])
  }

  get pid(): number {
    return this.#child.pid ?? assert.fail('the lab did not start')
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Its exit code, or its signal's name. */
  async end(): Promise<number | NodeJS.Signals | null> {
    await this.#ended
    return this.#child.exitCode ?? this.#child.signalCode
  }
}

const exists = (pid: number): boolean => existsSync(`/proc/${pid}`)

const assertNothingLeft = async (lab: Lab): Promise<void> => {
  assert.equal(exists(await lab.qemu()), false, 'QEMU is still running')
  assert.equal(existsSync(runDirectory(lab.pid)), false, 'temporary files are left')
}

describe('lab', function () {
  this.timeout('5m')

  describe("passes the command's end on", () => {
    it('exit code 1, with both streams apart', async () => {
      const lab = new Lab('--', 'sh', '-c', 'echo to stdout; echo to stderr >&2; exit 1')
      assert.equal(await lab.end(), 1, lab.stderr)
      assert.equal(lab.stdout, 'to stdout\n')
      assert.match(lab.stderr, /^to stderr$/m)
      await assertNothingLeft(lab)
    })

    it('a segmentation fault as 139', async () => {
      // An address that no program has: a fault of the CPU, not a signal that was sent.
      const lab = new Lab('--', 'python3', '-c', 'import ctypes; ctypes.string_at(16)')
      assert.equal(await lab.end(), 139, lab.stderr)
    })

    it("a code that is one of the lab's own, saying so", async () => {
      const lab = new Lab('--', 'sh', '-c', `exit ${exitCodes.panic}`)
      assert.equal(await lab.end(), exitCodes.panic)
      assert.match(lab.stderr, /the command exited with 121/)
    })
  })

  describe('fails with a code of its own and the console', () => {
    it('when the kernel panics', async () => {
      const lab = new Lab('--', 'sh', '-c', 'echo c > /proc/sysrq-trigger')
      assert.equal(await lab.end(), exitCodes.panic, lab.stderr)
      assert.match(lab.stderr, /Kernel panic - not syncing: sysrq triggered crash/)
    })

    it('when QEMU is killed', async () => {
      const lab = new Lab('--', 'sh', '-c', 'echo ready; sleep infinity')
      await lab.printed('stdout', /ready/)
      process.kill(await lab.qemu(), 'SIGKILL')
      assert.equal(await lab.end(), exitCodes.died, lab.stderr)
      assert.match(lab.stderr, /QEMU ended \(SIGKILL\)[\s\S]*modules are loaded/)
    })

    it('when the command is silent, showing what it waits for', async () => {
      const lab = new Lab('--quiet-timeout', '2', '--', 'sleep', 'infinity')
      assert.equal(await lab.end(), exitCodes.silent, lab.stderr)
      assert.match(lab.stderr, /no output for 2 s[\s\S]*sleep infinity[\s\S]*entry_SYSCALL/)
    })

    it('when the whole machine stands still', async () => {
      const lab = new Lab('--quiet-timeout', '2', '--', 'sh', '-c', 'echo ready; while :; do echo alive; done')
      await lab.printed('stdout', /ready/)
      process.kill(await lab.qemu(), 'SIGSTOP')
      assert.equal(await lab.end(), exitCodes.silent, lab.stderr)
      await assertNothingLeft(lab)
    })

    it('when the time is over', async () => {
      const lab = new Lab('--timeout', '3', '--', 'true')
      assert.equal(await lab.end(), exitCodes.timeout, lab.stderr)
    })

    it('when it is used wrongly', async () => {
      for (const args of [[], ['true'], ['--kernel', '5.10', '--', 'true'], ['--cpus', '0', '--', 'true']]) {
        const lab = new Lab(...args)
        assert.equal(await lab.end(), exitCodes.usage, lab.stderr)
      }
    })
  })

  describe('leaves nothing behind', () => {
    it('when it is interrupted', async () => {
      const lab = new Lab('--', 'sh', '-c', 'echo ready; sleep infinity')
      await lab.printed('stdout', /ready/)
      assert.equal(exists(await lab.qemu()), true)
      lab.kill('SIGINT')
      assert.equal(await lab.end(), 130)
      await assertNothingLeft(lab)
    })

    it('not even QEMU when it is killed itself, and the next one clears up after it', async () => {
      const killed = new Lab('--', 'sh', '-c', 'echo ready; sleep infinity')
      await killed.printed('stdout', /ready/)
      killed.kill('SIGKILL')
      assert.equal(await killed.end(), 'SIGKILL')
      const next = new Lab('--', 'true')
      assert.equal(await next.end(), 0, next.stderr)
      await assertNothingLeft(killed)
    })
  })

  it('loses no byte of 100 MB', async () => {
    const size = 100_000_000
    const lab = new Lab('--', 'head', '-c', String(size), '/dev/zero')
    assert.equal(await lab.end(), 0, lab.stderr)
    assert.equal(lab.stdout.length, size)
  })

  it('passes arguments exactly, throws away what is written, and keeps the out folder', async () => {
    const out = await mkdtemp(path.join(tmpdir(), 'lab, out '))
    const stray = path.join(projectRoot, `written-in-the-lab-${process.pid}`)
    const script = `
      const fs = require('node:fs')
      fs.writeFileSync(process.argv[1], 'stray')
      fs.writeFileSync(process.env.LAB_OUT + '/result', fs.readFileSync(process.argv[1]))
      console.log(JSON.stringify({ args: process.argv.slice(2), env: process.env, cwd: process.cwd() }))`
    const args = ['two  words', `'single' "double" \\back`, 'line\nbreak\n', '', '$HOME `id` *', '--help', '€ ü']
    try {
      const variable = ['--env', 'WITH_SPACES=a  b\n"c"', '--env', 'EMPTY=']
      const lab = new Lab('--out', out, ...variable, '--', process.execPath, '-e', script, stray, ...args)
      assert.equal(await lab.end(), 0, lab.stderr)
      const seen = JSON.parse(Buffer.from(lab.stdout, 'latin1').toString())
      assert.deepEqual(seen.args, args)
      assert.equal(seen.cwd, projectRoot)
      const { PATH, TERM, LAB_KERNEL, _, ...environment } = seen.env
      assert.match(PATH, /\/usr\/sbin/)
      assert.ok(LAB_KERNEL.startsWith(`${defaultKernel}.`), LAB_KERNEL)
      const own = { HOME: '/root', LAB: '1', LAB_OUT: out }
      assert.deepEqual(environment, { ...own, WITH_SPACES: 'a  b\n"c"', EMPTY: '' })
      assert.equal(existsSync(stray), false, 'a file outside the out folder has reached the host')
      assert.equal(await readFile(path.join(out, 'result'), 'utf8'), 'stray')
    } finally {
      await rm(out, { recursive: true })
    }
  })

  for (const kernel of kernelNames) {
    it(`has the devices and modules on ${kernel}`, async () => {
      const modules = 'macvtap bridge veth vxlan geneve openvswitch'
      const script = `uname -r && modprobe -a ${modules} && ls /dev/vhost-net /dev/net/tun /dev/kvm`
      const lab = new Lab('--kernel', kernel, '--', 'sh', '-c', script)
      assert.equal(await lab.end(), 0, lab.stderr)
      const [release, ...devices] = lab.stdout.trimEnd().split('\n')
      assert.equal(release?.startsWith(`${kernel}.`), true, release)
      assert.deepEqual(devices.sort(), ['/dev/kvm', '/dev/net/tun', '/dev/vhost-net'])
    })
  }
})
