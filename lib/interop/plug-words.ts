// Where a NIC is plugged in, in words of a command line: `ovs:br-int,iface-id=…,tag=7`, as options and back.
//
// Each switch's own spelling: of iproute2 for what the kernel does, of ovs-vsctl(8) for Open vSwitch. Ranges of values are
// checked by who plugs.

import { InvalidOptionError } from '../errors.ts'
import { nearest } from '../nearest.ts'
import { QemuWords } from './qemu-words.ts'

/** How a value is written. */
interface Form<T> {
  read(words: QemuWords, name: string): T | undefined
  write(value: T): string
}

const text: Form<string> = { read: (words, name) => words.take(name), write: (value) => value.replaceAll(',', ',,') }
const integer: Form<number> = { read: (words, name) => words.takeInteger(name), write: String }
const flag: Form<boolean> = { read: (words, name) => words.takeSwitch(name), write: (value) => (value ? 'on' : 'off') }
/** `10:20`, as QEMU writes several fds. */
const integers: Form<readonly number[]> = {
  read: (words, name) => words.takeIntegers(name),
  write: (value) => value.join(':'),
}

// biome-ignore lint/suspicious/noExplicitAny: each value is of its own form
type AnyForm = Form<any>

interface Kind {
  /** The option that stands first, without its name: the bridge of `bridge:br0`. */
  first: string
  /** Words, each with the option that it is: `'vlan.tag'` is within another one. */
  words: Readonly<Record<string, readonly [option: string, form: AnyForm]>>
}

const KINDS: Readonly<Record<string, Kind>> = {
  bridge: {
    first: 'bridge',
    words: {
      isolated: ['isolated', flag],
      vlan: ['vlan.tag', integer],
      trunk: ['vlan.trunk', integers],
      native: ['vlan.nativeMode', text],
    },
  },
  ovs: {
    first: 'bridge',
    words: {
      'iface-id': ['ifaceId', text],
      'vm-id': ['vmId', text],
      'port-profile': ['portProfile', text],
      tag: ['tag', integer],
      trunks: ['trunks', integers],
      vlan_mode: ['vlanMode', text],
      ingress_policing_rate: ['ingressPolicingRate', integer],
      ingress_policing_burst: ['ingressPolicingBurst', integer],
      db: ['db', text],
      ovn: ['ovn', flag],
      persistent: ['persistent', flag],
    },
  },
}

/** Options of `plug`, from words. */
export interface PlugWords {
  /** The id of the netdev that is meant; where there is one only, it need not be said. */
  netdev?: string
  /** `{ ovs: { bridge: 'br-int', tag: 7 } }` */
  where: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

/**
 * @param given what follows `--plug`
 * @throws {InvalidOptionError} `ERR_OPTION_*`, with the place of what is wrong: `'plug[ovs].tag'`
 */
export function parsePlug(given: string): PlugWords {
  const [, kind = '', rest = ''] = /^([^:,]*):?(.*)$/s.exec(given) ?? []
  if (!Object.hasOwn(KINDS, kind)) throw unknownKind(kind)
  const { first, words: known } = KINDS[kind] as Kind
  const words = new QemuWords(rest, `plug[${kind}]`, first)
  const options: Record<string, unknown> = {}
  const named = words.take(first)
  if (named === undefined) throw words.error('ERR_OPTION_RANGE', first, 'is missing', `Write ${kind}:…`)
  options[first] = named
  for (const [word, [option, form]] of Object.entries(known)) {
    const value: unknown = form.read(words, word)
    if (value !== undefined) put(options, option.split('.'), value)
  }
  const netdev = words.take('netdev')
  words.end()
  return { ...(netdev === undefined ? {} : { netdev }), where: { [kind]: options } }
}

/** The words for that; those of `parsePlug`. */
export function formatPlug(where: PlugWords['where']): string {
  const [kind = '', options = {}] = Object.entries(where)[0] ?? []
  if (!Object.hasOwn(KINDS, kind)) throw unknownKind(kind)
  const { first, words: known } = KINDS[kind] as Kind
  const words = Object.entries(known).flatMap(([word, [option, form]]) => {
    const value = get(options, option.split('.'))
    return value === undefined ? [] : [`,${word}=${form.write(value)}`]
  })
  const named = text.write(String(options[first]))
  // What has no name must not look as if it had one.
  return `${kind}:${named.includes('=') ? `${first}=` : ''}${named}${words.join('')}`
}

function put(options: Record<string, unknown>, [name = '', ...within]: readonly string[], value: unknown): void {
  if (within.length === 0) {
    options[name] = value
    return
  }
  const inner = (options[name] ?? {}) as Record<string, unknown>
  options[name] = inner
  put(inner, within, value)
}

function get(options: unknown, path: readonly string[]): unknown {
  return path.reduce((value, name) => (value as Record<string, unknown> | undefined)?.[name], options)
}

function unknownKind(kind: string): InvalidOptionError {
  const known = Object.keys(KINDS)
  const near = nearest(kind, known)
  const hint =
    near === undefined ? `Known are ${known.map((name) => `${name}:…`).join(', ')}.` : `Did you mean '${near}:'?`
  return new InvalidOptionError('ERR_OPTION_UNKNOWN', 'plug', `there is no '${kind}' to plug into`, { hint })
}
