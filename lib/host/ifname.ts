// What the kernel takes as a network interface's name: dev_valid_name() in net/core/dev.c.

import { IFNAME_MAX } from '../abi/tun.ts'
import { InvalidOptionError } from '../errors.ts'

export interface IfnameRules {
  /** Whether one `%d` may stand for the first free number, as in `tap%d`. Default false. */
  pattern?: boolean
}

// The kernel's isspace() goes by Latin-1, in which 0xa0 is a space; so 'à' (c3 a0 in UTF-8) is refused.
function isSpace(byte: number): boolean {
  return (byte >= 0x09 && byte <= 0x0d) || byte === 0x20 || byte === 0xa0
}

/**
 * Checks a network interface's name and returns it: 1..15 bytes of UTF-8; not `.` or `..`; no `/`, `:`, `%`, NUL or
 * white space.
 * @param option where the name came from, for the message: `'tap.ifname'`.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
 */
export function checkIfname(value: unknown, option = 'ifname', { pattern = false }: IfnameRules = {}): string {
  if (typeof value !== 'string') {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option, `expected a string, received ${typeof value}`)
  }
  const problem = problemOf(value, pattern)
  if (problem === undefined) return value
  throw new InvalidOptionError('ERR_OPTION_RANGE', option, `${JSON.stringify(value)} ${problem}`, {
    context: { received: value },
  })
}

function problemOf(name: string, pattern: boolean): string | undefined {
  const bytes = Buffer.from(name)
  if (bytes.length === 0) return 'is empty'
  if (bytes.length > IFNAME_MAX) return `has ${bytes.length} bytes; ${IFNAME_MAX} is the most`
  if (name === '.' || name === '..') return 'is the name of a directory'
  if (/[/:\0]/.test(name) || bytes.some(isSpace)) return 'has a slash, a colon, a NUL or white space in it'
  if (pattern ? /%/.test(name.replace('%d', '')) : name.includes('%')) {
    return pattern ? 'has a % other than one %d' : 'has a % in it, which the kernel reads as a pattern'
  }
  return undefined
}
