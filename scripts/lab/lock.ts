// Who may do what only so many can do at a time, among all processes of this checkout.

import { createHash } from 'node:crypto'
import net from 'node:net'
import { availableParallelism } from 'node:os'
import { projectRoot } from './project.ts'
import { say } from './report.ts'

// An abstract socket needs no file, and the kernel releases its name when the holder dies, however it dies.
const checkout = createHash('sha256').update(projectRoot).digest('hex').slice(0, 16)
const socketName = (name: string): string => `\0vhost-net-lab-${checkout}-${name}`

/** A machine runs on one CPU: more of them would only make each other's time limits fire. */
const slots = Array.from({ length: availableParallelism() }, (_, slot) => slot)

const isCode = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code

export interface Held {
  readonly name: string
  letGo(): void
}

/** Undefined if another process holds it. */
const tryToHold = (name: string): Promise<Held | undefined> =>
  new Promise((resolve, reject) => {
    // Those who wait stay connected: their connections end when this one lets go, or when this process does.
    const waiting = new Set<net.Socket>()
    const server = net.createServer((other) => {
      waiting.add(other.unref().on('error', () => other.destroy()))
    })
    const letGo = (): void => {
      server.close()
      for (const other of waiting) other.destroy()
    }
    server.once('error', (error) => (isCode(error, 'EADDRINUSE') ? resolve(undefined) : reject(error)))
    server.listen(socketName(name), () => {
      server.unref()
      resolve({ name, letGo })
    })
  })

/** Resolves when one of the holders has let go. */
const waitForOne = async (names: readonly string[]): Promise<void> => {
  const connections = names.map((name) => net.connect(socketName(name)).resume())
  const closed = (connection: net.Socket): Promise<void> =>
    new Promise((resolve, reject) => {
      connection.once('close', () => resolve())
      connection.once('error', (error) => {
        if (!isCode(error, 'ECONNREFUSED') && !isCode(error, 'ECONNRESET')) reject(error)
      })
    })
  try {
    await Promise.race(connections.map(closed))
  } finally {
    for (const connection of connections) connection.destroy()
  }
}

/** Holds one of these until it lets go or this process ends, waiting as long as others hold them all. */
export const hold = async (names: readonly string[], waiting: string): Promise<Held> => {
  for (let said = false; ; said = true) {
    for (const name of names) {
      const held = await tryToHold(name)
      if (held !== undefined) return held
    }
    if (!said) say(waiting)
    await waitForOne(names)
  }
}

/** Waits until this checkout has fewer machines than this computer has CPUs, and takes the place of one more. */
export const takeSlot = async (): Promise<number> => {
  const names = slots.map((slot) => `slot-${slot}`)
  const { name } = await hold(names, 'as many labs of this checkout are running as there are CPUs; waiting for an end')
  return names.indexOf(name)
}

/** Does what no other process of this checkout may do meanwhile. */
export const alone = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
  const held = await hold([what], `another lab of this checkout is busy with the ${what}; waiting for its end`)
  try {
    return await work()
  } finally {
    held.letGo()
  }
}
