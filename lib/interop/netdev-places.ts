// Where the netdevs of a command line are plugged in: by their own word, `br=`, or by a `--plug` beside them.

import { InvalidOptionError } from '../errors.ts'
import { unknownOption } from '../options.ts'
import { type PlugWords, parsePlug } from './plug-words.ts'

interface Netdev {
  id: string
  /** A Linux bridge. */
  br: string | undefined
}

/**
 * By the ids of netdevs.
 * @param plugs what follows each `--plug`
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 */
export function placesOf(netdevs: readonly Netdev[], plugs: readonly string[]): Map<string, PlugWords['where']> {
  const places = new Map<string, PlugWords['where']>()
  for (const { id, br } of netdevs) if (br !== undefined) places.set(id, { bridge: { bridge: br } })
  const ids = netdevs.map(({ id }) => id)
  for (const text of plugs) {
    const { netdev, where } = parsePlug(text)
    const id = chosen(netdev, ids)
    if (places.has(id)) throw conflict(`plug[${id}]`, 'it is plugged in elsewhere already')
    places.set(id, where)
  }
  return places
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
