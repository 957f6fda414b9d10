// The measuring stick: a program in C that plays the driver with nothing around it.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { INSTRUCTIONS_PER_MILLISECOND, type Sample } from './measure.ts'
import { BATCH, RING } from './nic.ts'

/** The largest without GSO, under an MTU of 1500 bytes. */
const ETHERNET_FRAME = 1514

/** Runs it for a second. It sleeps when it has nothing to do, on one CPU: others need it. It feeds itself, by a thread. */
export async function runBaseline(program: string, direction: 'tx' | 'rx', size: number): Promise<Sample> {
  // Its source cannot send frames over the MTU but as GSO, of which the receiver sees nothing but the header.
  const tso = direction === 'rx' && size > ETHERNET_FRAME ? 1 : 0
  const words = { len: size, n: RING, batch: BATCH, secs: 1, rep: 1, poll: 0, pin: 0, tso }
  const args = [direction, ...Object.entries(words).map(([name, value]) => `${name}=${value}`)]
  const { stdout: result } = await promisify(execFile)(program, args)
  const number = (name: string) => Number(new RegExp(` ${name}=(\\d+)`).exec(result)?.[1])
  const pps = number('pps')
  if (!(pps > 0)) throw new Error(`the program in C said: ${result}`)
  return {
    packets: pps,
    instructionsPerPacket: (1000 * INSTRUCTIONS_PER_MILLISECOND) / pps,
    idle: 0,
    kicks: (number('kicks') * 1000) / pps,
    sleeps: (number('waits') * 1000) / pps,
  }
}
