// One lab at a time: two machines on two cores would only make each other's time limits fire.

import { createHash } from 'node:crypto'
import net from 'node:net'
import { projectRoot } from './project.ts'
import { say } from './report.ts'

// An abstract socket needs no file, and the kernel releases its name when the holder dies, however it dies.
const socketName = `\0vhost-net-lab-${createHash('sha256').update(projectRoot).digest('hex').slice(0, 16)}`

const isCode = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code

/** Undefined if another process holds the name. */
const tryToHold = (): Promise<net.Server | undefined> =>
  new Promise((resolve, reject) => {
    // The waiting labs stay connected: their connections end when this process does.
    const server = net.createServer((waiting) => waiting.unref().on('error', () => waiting.destroy()))
    server.once('error', (error) => (isCode(error, 'EADDRINUSE') ? resolve(undefined) : reject(error)))
    server.listen(socketName, () => resolve(server.unref()))
  })

const waitForHolder = (): Promise<void> =>
  new Promise((resolve, reject) => {
    const connection = net.connect(socketName)
    connection.once('error', (error) => {
      if (isCode(error, 'ECONNREFUSED') || isCode(error, 'ECONNRESET')) resolve()
      else reject(error)
    })
    connection.once('close', () => resolve())
    connection.resume()
  })

/** Waits until no other lab of this checkout runs. The lock lasts until this process ends. */
export const lockLab = async (): Promise<void> => {
  let said = false
  while ((await tryToHold()) === undefined) {
    if (!said) say('another lab of this checkout is running; waiting for its end')
    said = true
    await waitForHolder()
  }
}
