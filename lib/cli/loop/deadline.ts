// A time limit as a signal.

/**
 * Aborts after so many milliseconds, or when `signal` does. Its timer holds it until then, and keeps no process alive: a
 * signal of AbortSignal.timeout that nobody but AbortSignal.any knows is collected in Node.js 20, and never aborts.
 */
export function deadline(ms: number, signal: AbortSignal): AbortSignal {
  const late = new AbortController()
  setTimeout(() => late.abort(new DOMException(`it took longer than ${ms} ms`, 'TimeoutError')), ms).unref()
  return AbortSignal.any([signal, late.signal])
}
