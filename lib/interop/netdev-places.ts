// Where the netdevs of a command line are plugged in: by their own word, `br=`, or by a `--plug` beside them.

import { InvalidOptionError } from '../errors.ts'
import type { VirtioNetOptions } from '../nic.ts'
import { unknownOption } from '../options.ts'
import { type PlugWords, parsePlug } from './plug-words.ts'

/** Of which netdev it is, is known. */
export type Place = Omit<PlugWords, 'netdev'>

interface Netdev {
  id: string
  /** A Linux bridge. */
  br: string | undefined
  backend: VirtioNetOptions['backend']
}

/**
 * By the ids of netdevs.
 * @param plugs what follows each `--plug`
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 */
export function placesOf(netdevs: readonly Netdev[], plugs: readonly string[]): Map<string, Place> {
  const places = new Map<string, Place>()
  for (const { id, br } of netdevs) if (br !== undefined) places.set(id, { where: { bridge: { bridge: br } } })
  const ids = netdevs.map(({ id }) => id)
  for (const text of plugs) {
    const { netdev, ...place } = parsePlug(text)
    const id = chosen(netdev, ids)
    if (places.has(id)) throw conflict(`plug[${id}]`, 'it is plugged in elsewhere already')
    places.set(id, place)
  }
  return places
}

/**
 * What is to be opened: instead of a tap the macvtap of its name, where that is what it is plugged in as.
 * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT`
 */
export function backendAt({ id, backend }: Netdev, place: Place | undefined): VirtioNetOptions['backend'] {
  if (place?.where.macvtap === undefined) return backend
  const { tap, fds, ...others } = backend
  if (fds !== undefined) throw conflict(`plug[${id}]`, 'a macvtap is made for it, and fds of one exclude that')
  const ifname = tap?.ifname ?? ''
  if (!ifname.includes('%')) return { ...others, macvtap: { ifname } }
  throw conflict(`netdev[${id}].ifname`, 'is to name the macvtap that is made', 'Write ifname=macvtap0, or such.')
}

function chosen(netdev: string | undefined, ids: readonly string[]): string {
  const id = netdev ?? (ids.length === 1 ? ids[0] : undefined)
  if (id === undefined) {
    throw conflict('plug.netdev', 'is missing, and there is not just one netdev', 'Write --plug …,netdev=ID.')
  }
  if (ids.includes(id)) return id
  throw conflict('plug.netdev', `there is no netdev '${id}'`, unknownOption('plug.netdev', id, ids).hint)
}

function conflict(option: string, problem: string, hint?: string): InvalidOptionError {
  return new InvalidOptionError('ERR_OPTION_CONFLICT', option, problem, hint === undefined ? {} : { hint })
}
