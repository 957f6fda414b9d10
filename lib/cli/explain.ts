// What a user is told of an error.

/** Message and hint. The stack says something only to who works on this package. */
export function explain(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(explain).join('\n')
  if (!(error instanceof Error)) return String(error)
  return process.env.NODE_DEBUG?.includes('vhost-net') ? (error.stack ?? error.message) : error.message
}
