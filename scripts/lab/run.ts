// Starts the machine, passes its streams on, watches over it, and tells how the command ended.

import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { KernelConsole } from './console.ts'
import { exitCodes, LabError, signalExitCodes } from './failure.ts'
import { type Job, writeInitramfs } from './initramfs.ts'
import { removeLeftovers, temporaryDirectory } from './leftovers.ts'
import { type Channel, channels, firstChannelFd, type MachineOptions, qemuArguments } from './qemu.ts'
import { say } from './report.ts'
import { attachTerminal } from './terminal.ts'

export interface Limits {
  /** Seconds for everything. */
  readonly total: number
  /** Seconds without any output. */
  readonly quiet: number
}

/** Booting is silent for long on a busy host, whatever limit the command has. */
const bootQuietSeconds = 120

/** How long a silent machine may take to explain itself, first by its PID 1, then by its kernel. */
const explainSeconds = 5

export type Signal = keyof typeof signalExitCodes

const startQemu = (args: readonly string[]): ChildProcess => {
  // QEMU dies with this process however that ends, and does not see the terminal's Ctrl-C.
  const command = ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...args]
  return spawn('setpriv', command, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', ...channels.map(() => 'pipe' as const)],
  })
}

const channelOf = (qemu: ChildProcess, channel: Channel): Socket =>
  qemu.stdio[firstChannelFd + channels.indexOf(channel)] as Socket

/** The reason why the machine is stopped before the command's end. */
interface Stop {
  readonly exitCode: number
  readonly reason: string
}

class Machine extends EventEmitter {
  readonly #qemu: ChildProcess
  readonly #console: KernelConsole
  readonly #limits: Limits
  #started = false
  #verdict: number | undefined
  #stop: Stop | undefined
  #qemuOutput = ''
  #quietTimer: NodeJS.Timeout | undefined

  constructor(args: readonly string[], consoleFile: string, limits: Limits) {
    super()
    this.#limits = limits
    this.#qemu = startQemu(args)
    this.#console = new KernelConsole(this.channel('console'), consoleFile)
    for (const stream of [this.#qemu.stdout, this.#qemu.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#qemuOutput += chunk.toString()
      })
    }
    // A machine that ends resets what is still on its way to it, which loses nothing: it has ended.
    const reset = (error: NodeJS.ErrnoException): void => {
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error
    }
    for (const channel of channels) {
      this.channel(channel)
        .on('error', reset)
        .on('data', () => this.#heard())
    }
    // The interface repeats its input's errors.
    createInterface({ input: this.channel('control') })
      .on('line', (line) => this.#control(line))
      .on('error', reset)
  }

  get pid(): number | undefined {
    return this.#qemu.pid
  }

  channel(channel: Channel): Socket {
    return channelOf(this.#qemu, channel)
  }

  stop(exitCode: number, reason: string): void {
    this.#stop ??= { exitCode, reason }
    this.#qemu.kill('SIGKILL')
  }

  /** The command's exit code; throws if there is none. */
  async result(): Promise<number> {
    const { total } = this.#limits
    const expire = (): void => this.stop(exitCodes.timeout, `the time limit of ${total} s is over`)
    const timer = Number.isFinite(total) ? setTimeout(expire, total * 1000) : undefined
    this.#heard()
    try {
      // Unlike "exit", "close" comes after all that the machine wrote has been read.
      const [status, signal] = (await once(this.#qemu, 'close')) as [number | null, NodeJS.Signals | null]
      return this.#judge(signal === null ? `status ${status}` : signal)
    } catch (error) {
      if (error instanceof LabError) throw error
      throw new LabError(exitCodes.notReady, `cannot run setpriv and QEMU: ${(error as Error).message}`, {
        cause: error,
      })
    } finally {
      clearTimeout(timer)
      clearTimeout(this.#quietTimer)
      await this.#console.close()
    }
  }

  #judge(ending: string): number {
    // A panic counts even after the verdict: it may be the command's late consequence.
    if (this.#console.panicked && this.#stop === undefined) throw this.#failure(exitCodes.panic, 'the kernel panicked')
    if (this.#stop !== undefined) throw this.#failure(this.#stop.exitCode, this.#stop.reason)
    if (this.#verdict !== undefined) return this.#verdict
    throw this.#failure(exitCodes.died, `QEMU ended (${ending}) before the command did`)
  }

  #failure(exitCode: number, reason: string): LabError {
    // Who interrupts the lab knows why, and need not see the console.
    if (exitCode > 128) return new LabError(exitCode, reason)
    const parts = [reason]
    if (this.#qemuOutput !== '') parts.push(`QEMU said:\n${this.#qemuOutput.trimEnd()}`)
    parts.push(`the last lines of the kernel's console (all of it: ${this.#console.file}):\n${this.#console.tail}`)
    return new LabError(exitCode, parts.join('\n'))
  }

  #control(line: string): void {
    const [word, value] = line.split(' ')
    if (word === 'started') {
      this.#started = true
      this.#heard()
      this.emit('started')
    }
    // The guest has said everything and its streams are complete: its power-off would only take time.
    if (word === 'exit') this.#verdict = Number(value)
    if (word === 'exit' || word === 'explained') this.#qemu.kill('SIGKILL')
  }

  #heard(): void {
    clearTimeout(this.#quietTimer)
    if (this.#stop !== undefined) return
    const seconds = this.#started ? this.#limits.quiet : Math.max(bootQuietSeconds, this.#limits.quiet)
    if (!Number.isFinite(seconds)) return
    this.#quietTimer = setTimeout(() => this.#fellSilent(seconds), seconds * 1000)
  }

  #fellSilent(seconds: number): void {
    this.#stop = { exitCode: exitCodes.silent, reason: `no output for ${seconds} s` }
    this.channel('control').write('explain\n')
    this.#quietTimer = setTimeout(() => this.#interruptKernel(), explainSeconds * 1000)
  }

  #interruptKernel(): void {
    // QMP: the NMI makes the kernel panic and print where it was.
    this.channel('monitor').write('{"execute":"qmp_capabilities"}{"execute":"inject-nmi"}')
    this.#quietTimer = setTimeout(() => this.#qemu.kill('SIGKILL'), explainSeconds * 1000)
  }
}

/** Where the runner with this process id keeps its temporary files. */
export const runDirectory = (pid: number): string => temporaryDirectory('run', pid)

/** Boots the machine, lets it do the job, and hands back the command's exit code. */
export const run = async (
  options: Omit<MachineOptions, 'initramfs'>,
  job: Job,
  consoleFile: string,
  limits: Limits,
): Promise<number> => {
  const directory = runDirectory(process.pid)
  removeLeftovers('run')
  await mkdir(directory, { recursive: true })
  await mkdir(options.outDirectory, { recursive: true })
  try {
    const initramfs = path.join(directory, 'initramfs')
    await writeInitramfs(options.kernel, job, initramfs)
    return await runMachine(new Machine(qemuArguments({ ...options, initramfs }), consoleFile, limits), options)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

const runMachine = async (machine: Machine, options: Omit<MachineOptions, 'initramfs'>): Promise<number> => {
  const { kernel, cpus, memory } = options
  say(
    `booting ${kernel.release} with ${cpus} CPU${cpus === 1 ? '' : 's'} and ${memory} MiB (QEMU's pid is ${machine.pid})`,
  )
  const interrupt = (signal: Signal): void => machine.stop(signalExitCodes[signal], `ended by ${signal}`)
  const signals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const
  for (const signal of signals) process.on(signal, interrupt)
  let detach: (() => void) | undefined
  if (options.terminal) {
    // Keys pressed before the shell is there would be lost.
    machine.once('started', () => {
      detach = attachTerminal(machine.channel('terminal'))
    })
  } else {
    machine.channel('stdout').pipe(process.stdout, { end: false })
    machine.channel('stderr').pipe(process.stderr, { end: false })
  }
  // The reader of our output is gone: nobody is left to run for.
  const brokenPipe = (): void => interrupt('SIGPIPE')
  process.stdout.on('error', brokenPipe)
  try {
    return await machine.result()
  } finally {
    detach?.()
    process.stdout.off('error', brokenPipe)
    for (const signal of signals) process.off(signal, interrupt)
  }
}
