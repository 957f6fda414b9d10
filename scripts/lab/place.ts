// Where a command of this project that needs the kernel runs: on this machine if it has what is needed, else in the lab.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { runChild } from './child.ts'
import { exitCodes, LabError } from './failure.ts'
import { missingHere } from './here.ts'
import { defaultKernel, isKernelName, type KernelName, kernelNames } from './kernels.ts'
import { projectRoot } from './project.ts'

export interface Job {
  /** The command's name, in front of what it says. */
  name: string
  /** What runs, below dist/scripts. */
  program: string
  args?: readonly string[]
  /** The lab's, where it is to be the lab. Without it, this machine if that is possible. */
  kernel?: KernelName | undefined
  /** The lab's, where `kernel` is not given (default: the lab's default). */
  otherwise?: KernelName
  /** Whether it runs virtual machines itself. */
  guests?: boolean
  /** Further options of the lab. */
  lab?: readonly string[]
}

/** What `--option` says. */
export function kernelNamed(option: string, value: string): KernelName
export function kernelNamed(option: string, value: string | undefined): KernelName | undefined
export function kernelNamed(option: string, value: string | undefined): KernelName | undefined {
  if (value === undefined || isKernelName(value)) return value
  throw new LabError(exitCodes.usage, `--${option} must be one of ${kernelNames.join(', ')}`)
}

/** A number that an option says. */
export function numberNamed(option: string, value: string, least: number, most: number): number {
  const number = Number(value)
  if (Number.isInteger(number) && number >= least && number <= most) return number
  throw new LabError(exitCodes.usage, `--${option} must be ${least}..${most}, not ${value}`)
}

/** Its exit code, or the lab's own. */
export function runHereOrInLab(job: Job): Promise<number> {
  const { name, program, args = [], kernel, otherwise = defaultKernel, guests = false, lab = [] } = job
  const missing = guests && !existsSync('/dev/kvm') ? [...missingHere(), '/dev/kvm'] : missingHere()
  const here = kernel === undefined && missing.length === 0
  const why = kernel === undefined ? `, since this machine lacks ${missing.join(' and ')}` : ''
  process.stderr.write(`${name}: ${here ? 'on this machine' : `in the lab on ${kernel ?? otherwise}${why}`}\n`)
  const command = [process.execPath, path.join(projectRoot, 'dist/scripts', program), ...args]
  if (here) return runChild(command, process.env)
  // With several CPUs, QEMU delivers some of a nested guest's interrupts twice; see qemu.ts.
  const options = ['--kernel', kernel ?? otherwise, ...(guests ? ['--guests'] : []), ...lab]
  return runChild(
    [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), ...options, '--', ...command],
    process.env,
  )
}

/** Runs a command's `main`, whose result is the process's exit code, and says what kept it from running. */
export async function runCommand(name: string, main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main()
  } catch (error) {
    if (!(error instanceof LabError)) throw error
    process.stderr.write(`${name}: ${error.message}\n`)
    process.exitCode = error.exitCode
  }
}
