// The progress line of the bulk traffic: rewritten four times a second on a terminal, else one line a second.

import type { Endpoints } from './endpoints.ts'
import { rate } from './table.ts'

/** Runs `operation` and tells on `stream` meanwhile how many frames moved since it was told last. */
export async function withProgress<T>(
  stream: NodeJS.WriteStream,
  endpoints: Endpoints,
  operation: () => Promise<T>,
): Promise<T> {
  const totals = () => ({ tx: endpoints.sent, rx: endpoints.received, at: performance.now() })
  const started = performance.now()
  let last = totals()
  const tell = () => {
    const now = totals()
    const passed = now.at - last.at
    const line =
      `bulk ${((now.at - started) / 1000).toFixed(1)} s  tx ${rate(now.tx - last.tx, passed)}  ` +
      `rx ${rate(now.rx - last.rx, passed)}`
    stream.write(stream.isTTY ? `\r\x1b[K${line}` : `${line}\n`)
    last = now
  }
  const timer = setInterval(tell, stream.isTTY ? 250 : 1000)
  try {
    return await operation()
  } finally {
    clearInterval(timer)
    if (stream.isTTY) stream.write('\r\x1b[K')
  }
}
