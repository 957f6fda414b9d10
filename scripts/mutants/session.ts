// One session: plants all faults, runs their tests, and says of each whether it was noticed.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate } from 'node:timers/promises'
import type { Fault } from '../../test/mutants/fault.ts'
import { projectRoot } from '../lab/project.ts'
import { titlesOf } from '../titles.ts'
import type { Run, RunResult } from './plan.ts'
import { lineNumberOf, plant } from './plant.ts'
import { type Judged, progressLine } from './table.ts'
import { makeTree } from './tree.ts'
import { Compiler } from './typescript.ts'
import { judge, survived, unfit, type Verdict } from './verdict.ts'

/** Seconds for the test of one fault, and for all tests of one file without any. */
const limits = { unit: [30, 120], kernel: [45, 300] } as const

const say = (message: string): boolean => process.stderr.write(`${message}\n`)

export class Session {
  readonly #directory: string
  readonly #faults: readonly Fault[]
  readonly #signal: AbortSignal
  readonly #verdicts = new Map<Fault, Verdict>()
  /** The tree without a fault. */
  readonly #sound: string

  /** @param directory is made by the caller, and removed by it. */
  constructor(directory: string, faults: readonly Fault[], signal: AbortSignal) {
    this.#directory = directory
    this.#sound = path.join(directory, 'sound')
    this.#faults = faults
    this.#signal = signal
  }

  async run(): Promise<Judged[]> {
    makeTree(this.#sound, new Map())
    const planted = await this.#plantAll()
    for (const kind of ['unit', 'kernel'] as const) {
      const faults = planted.filter(({ test }) => test.startsWith(`${kind}/`))
      if (faults.length > 0) await this.#runAll(kind, faults)
    }
    return this.#faults.map((fault) => this.#judged(fault))
  }

  /** Plants all, runs nothing, and returns what is out of date: line, faulty line, or test. */
  async check(): Promise<Judged[]> {
    const planted = await this.#plantAll()
    for (const test of new Set(planted.map((fault) => fault.test))) {
      const titles = await titlesOf(test)
      for (const fault of planted.filter((each) => each.test === test && !titles.has(each.title))) {
        this.#settle(fault, survived('there is no such test'))
      }
    }
    return this.#faults.filter((fault) => this.#verdicts.has(fault)).map((fault) => this.#judged(fault))
  }

  #root(fault: Fault): string {
    return path.join(this.#directory, String(this.#faults.indexOf(fault)))
  }

  #judged(fault: Fault): Judged {
    const verdict = this.#verdicts.get(fault) ?? survived('its test was not run')
    return { fault, lineNumber: lineNumberOf(fault), verdict }
  }

  #settle(fault: Fault, verdict: Verdict): void {
    if (this.#verdicts.has(fault)) return
    this.#verdicts.set(fault, verdict)
    say(progressLine(process.stderr, this.#verdicts.size, this.#faults.length, this.#judged(fault)))
  }

  /** TypeScript is compiled by this process, while a compiler of C++ runs beside it. */
  async #plantAll(): Promise<Fault[]> {
    const start = performance.now()
    const compiler = new Compiler()
    const planted = new Set<Fault>()
    const plantEach = async (faults: readonly Fault[]): Promise<void> => {
      for (const fault of faults) {
        try {
          await plant(fault, this.#root(fault), compiler, this.#signal)
          planted.add(fault)
        } catch (error) {
          this.#signal.throwIfAborted()
          this.#settle(fault, survived((error as Error).message))
        }
        // Between two faults of TypeScript the compiler of C++ is seen to.
        await setImmediate()
      }
    }
    const isNative = ({ file }: Fault) => file.startsWith('native/')
    await Promise.all([
      plantEach(this.#faults.filter(isNative)),
      plantEach(this.#faults.filter((fault) => !isNative(fault))),
    ])
    say(`mutants: ${planted.size} faults planted in ${((performance.now() - start) / 1000).toFixed(0)} s`)
    return this.#faults.filter((fault) => planted.has(fault))
  }

  async #runAll(kind: 'unit' | 'kernel', faults: readonly Fault[]): Promise<void> {
    const [seconds, all] = limits[kind]
    const tests = [...new Set(faults.map(({ test }) => test))]
    const sound = tests.map((test): Run => {
      const titles = faults.filter((fault) => fault.test === test).map(({ title }) => title)
      return { id: test, root: this.#sound, test, titles: [...new Set(titles)], seconds: all }
    })
    const faulty = faults.map((fault): Run => {
      const { test, title } = fault
      return { id: String(this.#faults.indexOf(fault)), root: this.#root(fault), test, titles: [title], seconds }
    })
    const planFile = path.join(this.#directory, `${kind}.json`)
    writeFileSync(planFile, JSON.stringify([...sound, ...faulty]))
    const where = kind === 'unit' ? 'on this machine' : 'in the lab'
    say(`mutants: ${tests.length} files of tests without a fault and ${faults.length} tests with one, ${where}`)
    await this.#follow(kind, planFile, (result) => {
      const fault = this.#faults[Number(result.id)]
      if (fault !== undefined) this.#settle(fault, judge(fault, result))
      else this.#checkSound(faults, result)
    })
  }

  /** A test that fails without a fault says nothing about one. */
  #checkSound(faults: readonly Fault[], result: RunResult): void {
    for (const fault of faults.filter(({ test }) => test === result.id)) {
      const problem = unfit(result, fault.title)
      if (problem !== undefined) this.#settle(fault, survived(problem))
    }
  }

  async #follow(kind: 'unit' | 'kernel', planFile: string, take: (result: RunResult) => void): Promise<void> {
    const run = [process.execPath, path.join(projectRoot, 'dist/scripts/mutants/run.js'), planFile]
    // The limits of its tests bound it.
    const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), '--timeout', '7200', '--']
    const [command = '', ...args] = kind === 'kernel' ? [...lab, ...run] : run
    const child = spawn(command, args, { cwd: projectRoot, stdio: ['ignore', 'pipe', 'inherit'] })
    const stop = () => child.kill('SIGTERM')
    this.#signal.addEventListener('abort', stop)
    try {
      const closed = once(child, 'close')
      for await (const line of createInterface({ input: child.stdout })) take(JSON.parse(line) as RunResult)
      const [status] = (await closed) as [number | null]
      this.#signal.throwIfAborted()
      if (status !== 0) say(`mutants: the ${kind} tests ended with ${status}`)
    } finally {
      this.#signal.removeEventListener('abort', stop)
    }
  }
}
