// What is typed, on its way to the guest: a terminal gives every key, Ctrl-C too; a pipe or a file goes there as it is.

import type { ReadStream } from 'node:tty'
import { EscapeKey } from './escape.ts'

export interface InputHandlers {
  typed(bytes: Uint8Array): void
  /** Its user leaves. */
  left(): void
}

/** Reads from now on. @returns what ends that, and gives the terminal back as it was */
export function readInput(stream: ReadStream, { typed, left }: InputHandlers): () => void {
  const escapeKey = new EscapeKey()
  const take = (bytes: Uint8Array): void => {
    const taken = stream.isTTY ? escapeKey.take(bytes) : { typed: bytes, left: false }
    if (taken.typed.length > 0) typed(taken.typed)
    if (taken.left) left()
  }
  // A terminal that is gone answers EIO: its guest has nobody who types.
  const ignore = (): void => undefined
  if (stream.isTTY) stream.setRawMode(true)
  stream.on('error', ignore)
  stream.on('data', take)
  return () => {
    stream.off('data', take)
    stream.pause()
    if (stream.isTTY) stream.setRawMode(false)
    stream.off('error', ignore)
  }
}
