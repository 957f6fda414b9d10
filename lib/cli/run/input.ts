// What is typed, on its way to the guest: a terminal gives every key, Ctrl-C too; a pipe or a file goes there as it is.

import type { Duplex } from 'node:stream'
import type { ReadStream } from 'node:tty'
import { EscapeKey } from './escape.ts'

/**
 * Reads from now on. A pipe or a file waits while the guest takes nothing; at a terminal, which must hear Ctrl-A x at any
 * time, what is typed then is lost, as it is in a terminal's own queue.
 * @param left called when its user leaves
 * @returns what ends that, and gives the terminal back as it was
 */
export function readInput(stream: ReadStream, console: Duplex, left: () => void): () => void {
  const escapeKey = new EscapeKey()
  const goOn = (): void => {
    stream.resume()
  }
  const take = (bytes: Uint8Array): void => {
    const taken = stream.isTTY ? escapeKey.take(bytes) : { typed: bytes, left: false }
    const dropped = stream.isTTY && console.writableNeedDrain
    if (taken.typed.length > 0 && !dropped && !console.write(taken.typed) && !stream.isTTY) {
      stream.pause()
      console.once('drain', goOn)
    }
    if (taken.left) left()
  }
  // A terminal that is gone answers EIO: its guest has nobody who types.
  const ignore = (): void => undefined
  if (stream.isTTY) stream.setRawMode(true)
  stream.on('error', ignore)
  stream.on('data', take)
  return () => {
    stream.off('data', take)
    console.off('drain', goOn)
    stream.pause()
    if (stream.isTTY) stream.setRawMode(false)
    stream.off('error', ignore)
  }
}
