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
  /** Several of a word that may be there several times. */
  write(value: T): string | readonly string[]
}

const doubled = (value: string): string => value.replaceAll(',', ',,')
const text: Form<string> = { read: (words, name) => words.take(name), write: doubled }
/** `address=…,address=…`: what has colons in it cannot have one between two. */
const texts: Form<readonly string[]> = {
  read(words, name) {
    const values = words.takeAll(name)
    return values.length === 0 ? undefined : values
  },
  write: (values) => values.map(doubled),
}
const integer: Form<number> = { read: (words, name) => words.takeInteger(name), write: String }
const flag: Form<boolean> = { read: (words, name) => words.takeSwitch(name), write: (value) => (value ? 'on' : 'off') }
/** `10:20`, as QEMU writes several fds. */
const integers: Form<readonly number[]> = {
  read: (words, name) => words.takeIntegers(name),
  write: (value) => value.join(':'),
}

interface Limit {
  average: number
  peak?: number
  burst?: number
}

/** `average:peak:burst`, as virsh has them with commas; `average::burst` has no peak. */
const limit: Form<Limit> = {
  read(words, name) {
    const value = words.take(name)
    if (value === undefined) return undefined
    const numbers = value.split(':').map((part) => (part === '' ? undefined : words.integer(name, part)))
    const [average, peak, burst, ...others] = numbers
    if (average === undefined || others.length > 0) {
      throw words.error('ERR_OPTION_RANGE', name, `'${value}' is no AVERAGE:PEAK:BURST`, 'In kB/s, kB/s and KiB.')
    }
    return { average, ...(peak === undefined ? {} : { peak }), ...(burst === undefined ? {} : { burst }) }
  },
  write: ({ average, peak = '', burst = '' }) => `${average}:${peak}:${burst}`.replace(/:+$/, ''),
}

// biome-ignore lint/suspicious/noExplicitAny: each value is of its own form
type AnyForm = Form<any>

/** Words, each with the option that it is: `'vlan.tag'` is within another one. */
type Known = Readonly<Record<string, readonly [option: string, form: AnyForm]>>

interface Kind {
  /** The option that stands first, without its name, and must be there: the bridge of `bridge:br0`. `route,…` has none. */
  first?: string
  words: Known
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
  macvtap: { first: 'lower', words: { mode: ['mode', text] } },
  route: {
    words: { address: ['addresses', texts], route: ['routes', texts], proxy_arp: ['proxyArp', flag] },
  },
}

/** Of any kind; who plugs knows which of them it is for. */
const BANDWIDTH: Known = { inbound: ['inbound', limit], outbound: ['outbound', limit] }

type Options = Readonly<Record<string, unknown>>

/** Options of `plug`, from words. */
export interface PlugWords {
  /** The id of the netdev that is meant; where there is one only, it need not be said. */
  netdev?: string
  /** `{ ovs: { bridge: 'br-int', tag: 7 } }` */
  where: Readonly<Record<string, Options>>
  /** `{ inbound: { average: 1000 } }` */
  bandwidth?: Options
}

/**
 * @param given what follows `--plug`
 * @throws {InvalidOptionError} `ERR_OPTION_*`, with the place of what is wrong: `'plug[ovs].tag'`
 */
export function parsePlug(given: string): PlugWords {
  const [, kind = '', rest = ''] = /^([^:,]*)[:,]?(.*)$/s.exec(given) ?? []
  const { first, words: known } = kindOf(kind)
  const words = new QemuWords(rest, `plug[${kind}]`, first)
  const named = first === undefined ? {} : { [first]: words.take(first) }
  if (first !== undefined && named[first] === undefined) {
    throw words.error('ERR_OPTION_RANGE', first, 'is missing', `Write ${kind}:…`)
  }
  const options = { ...named, ...read(words, known) }
  const bandwidth = read(words, BANDWIDTH)
  const netdev = words.take('netdev')
  words.end()
  return {
    ...(netdev === undefined ? {} : { netdev }),
    where: { [kind]: options },
    ...(Object.keys(bandwidth).length === 0 ? {} : { bandwidth }),
  }
}

/** The words for that; those of `parsePlug`. */
export function formatPlug({ netdev, where, bandwidth = {} }: PlugWords): string {
  const [kind = '', options = {}] = Object.entries(where)[0] ?? []
  const { first, words: known } = kindOf(kind)
  const words = [
    ...write(known, options),
    ...write(BANDWIDTH, bandwidth),
    ...(netdev === undefined ? [] : [`netdev=${doubled(netdev)}`]),
  ]
  if (first === undefined) return [kind, ...words].join(',')
  const named = doubled(String(options[first]))
  // What has no name must not look as if it had one.
  return [`${kind}:${named.includes('=') ? `${first}=` : ''}${named}`, ...words].join(',')
}

function kindOf(kind: string): Kind {
  if (Object.hasOwn(KINDS, kind)) return KINDS[kind] as Kind
  const near = nearest(kind, Object.keys(KINDS))
  const hint =
    near === undefined ? `Known are ${Object.keys(KINDS).map(begin).join('…, ')}….` : `Did you mean '${begin(near)}'?`
  throw new InvalidOptionError('ERR_OPTION_UNKNOWN', 'plug', `there is no '${kind}' to plug into`, { hint })
}

const begin = (kind: string): string => `${kind}${KINDS[kind]?.first === undefined ? ',' : ':'}`

function read(words: QemuWords, known: Known): Record<string, unknown> {
  const options: Record<string, unknown> = {}
  for (const [word, [option, form]] of Object.entries(known)) {
    const value: unknown = form.read(words, word)
    if (value !== undefined) put(options, option.split('.'), value)
  }
  return options
}

function write(known: Known, options: Options): string[] {
  return Object.entries(known).flatMap(([word, [option, form]]) => {
    const value = get(options, option.split('.'))
    return value === undefined ? [] : [form.write(value)].flat().map((each) => `${word}=${each}`)
  })
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
