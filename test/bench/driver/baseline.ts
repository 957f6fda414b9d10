// The measuring stick: a program in C that plays the driver with nothing around it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { INSTRUCTIONS_PER_MILLISECOND, type Sample } from './measure.ts'
import { BATCH, prepareLink, RING } from './nic.ts'

/** Starts the injector on an interface; it is to be killed. */
export function inject(program: string, ifname: string, size: number) {
  return spawn(program, [ifname, String(size)], { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Runs it for a second. It sleeps when it has nothing to do, on one CPU: others need it. */
export async function runBaseline(
  programs: { baseline: string; injector: string },
  direction: 'tx' | 'rx',
  size: number,
): Promise<Sample> {
  const words = { len: size, n: RING, batch: BATCH, secs: 1, rep: 1, poll: 0, pin: 0, ext: direction === 'rx' ? 1 : 0 }
  const args = [direction, ...Object.entries(words).map(([name, value]) => `${name}=${value}`)]
  const child = spawn(programs.baseline, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let injector: ReturnType<typeof inject> | undefined
  let result = ''
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const ifname = /^ifn=(\S+)/.exec(line)?.[1]
      if (ifname === undefined) result = line
      else {
        prepareLink(ifname)
        injector = inject(programs.injector, ifname, size)
      }
    }
  } finally {
    injector?.kill()
  }
  if (child.exitCode === null) await once(child, 'exit')
  const number = (name: string) => Number(new RegExp(` ${name}=(\\d+)`).exec(result)?.[1])
  const pps = number('pps')
  if (!(pps > 0)) throw new Error(`the program in C ended with ${child.exitCode} and said: ${result}`)
  return {
    packets: pps,
    instructionsPerPacket: (1000 * INSTRUCTIONS_PER_MILLISECOND) / pps,
    idle: 0,
    kicks: (number('kicks') * 1000) / pps,
    sleeps: (number('waits') * 1000) / pps,
  }
}
