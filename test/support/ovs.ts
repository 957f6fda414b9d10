// An Open vSwitch of a test's own: ovsdb-server and ovs-vswitchd in a directory and, if asked for, a network namespace of
// their own, on the kernel's datapath.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { ovsDirectory } from '../../scripts/test/ovs.ts'
import { LINKER } from '../../scripts/test/unpacked.ts'
import { soon } from './soon.ts'

const run = promisify(execFile)

/** How long a program may take for what a busy emulated machine makes of it, in seconds. */
const PATIENCE = 60

export interface SwitchOptions {
  /** The name of a network namespace, as `ip netns` has it. Default: this one. */
  netns?: string
  /** Without ovs-vswitchd. */
  databaseOnly?: boolean
}

export class TestSwitch {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'ovs-'))
  readonly db = `unix:${this.file('db.sock')}`
  readonly #netns: string | undefined
  readonly #running = new Map<string, number>()
  #remotes: readonly string[] = []

  private constructor({ netns }: SwitchOptions) {
    this.#netns = netns
  }

  static async start(options: SwitchOptions = {}): Promise<TestSwitch> {
    execFileSync('modprobe', ['-a', 'openvswitch', 'vxlan', 'geneve'])
    const started = new TestSwitch(options)
    try {
      await started.createDatabase('conf', 'vswitch.ovsschema')
      await started.startServer()
      await started.vsctl('--no-wait', 'init')
      if (options.databaseOnly !== true) await started.startVswitchd()
      return started
    } catch (error) {
      await started.close()
      throw error
    }
  }

  file(name: string): string {
    return path.join(this.directory, name)
  }

  async createDatabase(name: string, schema: string): Promise<void> {
    await this.run('ovsdb-tool', 'create', this.file(`${name}.db`), path.join(ovsDirectory, schema))
  }

  /** @param remotes as ovsdb-server's `--remote`, besides its socket, and what belongs to them. */
  async startServer(...remotes: string[]): Promise<void> {
    this.#remotes = remotes
    await this.startDaemon('ovsdb-server', 'ovsdb-server', this.file('conf.db'), `--remote=p${this.db}`, ...remotes)
  }

  async startVswitchd(): Promise<void> {
    await this.startDaemon('ovs-vswitchd', 'ovs-vswitchd', this.db)
  }

  /** The server is killed, and comes back with what it has written. */
  async restartServer(): Promise<void> {
    await this.kill('ovsdb-server')
    rmSync(this.file('db.sock'), { force: true })
    await this.startServer(...this.#remotes)
  }

  /** Resolves when it is at work. @param name of it here */
  async startDaemon(name: string, program: string, ...args: string[]): Promise<void> {
    const pidfile = this.file(`${name}.pid`)
    const options = [`--pidfile=${pidfile}`, `--unixctl=${this.file(`${name}.ctl`)}`, '--detach', '--no-chdir']
    await this.run(program, ...args, ...options, '-vconsole:off', `--log-file=${this.file(`${name}.log`)}`)
    this.#running.set(name, Number(readFileSync(pidfile, 'utf8')))
  }

  pidOf(name: string): number {
    const pid = this.#running.get(name)
    assert.ok(pid, `${name} does not run`)
    return pid
  }

  /** By SIGKILL; resolves when it is gone. */
  async kill(name: string): Promise<void> {
    const pid = this.pidOf(name)
    this.#running.delete(name)
    process.kill(pid, 'SIGKILL')
    await soon(`the end of ${name}`, () => !existsSync(`/proc/${pid}`), PATIENCE)
  }

  /** As the administrator does; resolves when it is gone, and has put away what is its own. */
  async end(name: string): Promise<void> {
    const pid = this.pidOf(name)
    this.#running.delete(name)
    await this.appctl(name, 'exit', ...(name === 'ovs-vswitchd' ? ['--cleanup'] : []))
    await soon(`the end of ${name}`, () => !existsSync(`/proc/${pid}`), PATIENCE)
  }

  signal(name: string, signal: NodeJS.Signals): void {
    process.kill(this.pidOf(name), signal)
  }

  async vsctl(...args: string[]): Promise<string> {
    return await this.run('ovs-vsctl', `--db=${this.db}`, `--timeout=${PATIENCE}`, ...args)
  }

  async appctl(name: string, ...args: string[]): Promise<string> {
    return await this.run('ovs-appctl', '-t', this.file(`${name}.ctl`), ...args)
  }

  /** The flows in the kernel's datapath. */
  async flows(): Promise<string> {
    return await this.appctl('ovs-vswitchd', 'dpctl/dump-flows')
  }

  /** Runs a program of Open vSwitch's or OVN's to its end. @returns what it printed */
  async run(program: string, ...args: string[]): Promise<string> {
    const place = this.#netns === undefined ? [] : ['ip', 'netns', 'exec', this.#netns]
    const [command = '', ...before] = [...place, path.join(ovsDirectory, LINKER)]
    const inPlace = ['--library-path', ovsDirectory, path.join(ovsDirectory, program), ...args]
    const directory = this.directory
    const env = {
      ...process.env,
      OVS_RUNDIR: directory,
      OVS_LOGDIR: directory,
      OVS_DBDIR: directory,
      OVS_SYSCONFDIR: directory,
      OVN_RUNDIR: directory,
      OVN_LOGDIR: directory,
      OVN_DBDIR: directory,
    }
    try {
      return (await run(command, [...before, ...inPlace], { env, timeout: 1000 * PATIENCE })).stdout.trim()
    } catch (error) {
      const { stderr } = error as { stderr?: string }
      throw new Error(`${program} ${args.join(' ')}: ${stderr || String(error)}`, { cause: error })
    }
  }

  /** Ends all of it, the newest first; the datapath goes, too. */
  async close(): Promise<void> {
    for (const [name, pid] of [...this.#running].reverse()) {
      process.kill(pid, 'SIGCONT')
      await this.end(name)
    }
    rmSync(this.directory, { recursive: true, force: true })
  }
}
