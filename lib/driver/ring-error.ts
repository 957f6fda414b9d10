// What the ring loop throws, as this package's error.

import { systemCall } from '../binding/index.ts'
import { QueueError, SystemCallError } from '../errors.ts'

function translated(name: string, error: unknown): unknown {
  try {
    return systemCall(
      () => {
        throw error
      },
      { subject: name },
    )
  } catch (said) {
    return said
  }
}

/** What a call into the ring threw, as {@link QueueError} `ERR_QUEUE_BROKEN` where it is about the ring itself. */
export function ringError(name: string, error: unknown): unknown {
  const said = translated(name, error)
  if (!(said instanceof SystemCallError) || said.syscall !== 'virtqueue') return said
  return new QueueError('ERR_QUEUE_BROKEN', said.message, { context: { queue: name }, cause: said })
}
