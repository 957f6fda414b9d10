// Connects the user's terminal with the machine's.

import type { Socket } from 'node:net'

const endOfTransmission = '\x04'

/** Passes keys on as they are, Ctrl-C included. The result undoes it. */
export const attachTerminal = (machine: Socket): (() => void) => {
  const { stdin, stdout } = process
  if (stdin.isTTY) stdin.setRawMode(true)
  const forward = (chunk: Buffer): void => void machine.write(chunk)
  const end = (): void => void machine.write(endOfTransmission)
  stdin.on('data', forward).on('end', end)
  machine.pipe(stdout, { end: false })
  return () => {
    stdin.off('data', forward).off('end', end).pause()
    if (stdin.isTTY) stdin.setRawMode(false)
  }
}
