// What the lab says about itself. Always on stderr: stdout belongs to the command.

export const say = (message: string): void => {
  process.stderr.write(`lab: ${message}\n`)
}

/** Says how long `work` took once it is done. */
export const timed = async <T>(what: string, work: () => T | Promise<T>): Promise<T> => {
  const start = performance.now()
  say(`${what} ...`)
  const result = await work()
  say(`${what}: done in ${((performance.now() - start) / 1000).toFixed(1)} s`)
  return result
}
