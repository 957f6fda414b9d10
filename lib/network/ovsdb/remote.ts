// Where an OVSDB server listens, as OVS spells it: ovsdb(7), "Active Database Connection Methods".

import { isIP } from 'node:net'
import { InvalidOptionError } from '../../errors.ts'

export const DEFAULT_REMOTE = 'unix:/run/openvswitch/db.sock'

/** Of both TCP and TLS: assigned by IANA. */
const DEFAULT_PORT = 6640

export type Remote =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp' | 'ssl'; readonly host: string; readonly port: number }

const FORMS = 'unix:PATH, tcp:IP[:PORT] or ssl:IP[:PORT], with an IPv6 address in brackets'

/** @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
export function parseRemote(text: string, option = 'db'): Remote {
  const refuse = (): never => {
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, `${JSON.stringify(text)} is not ${FORMS}`)
  }
  const unix = /^unix:(.+)$/.exec(text)?.[1]
  // sun_path has 108 bytes, a NUL among them.
  if (unix !== undefined) return Buffer.byteLength(unix) < 108 ? { kind: 'unix', path: unix } : refuse()
  const [, kind, bracketed, plain, port = String(DEFAULT_PORT)] =
    /^(tcp|ssl):(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? refuse()
  const host = bracketed ?? plain ?? ''
  const isRight = isIP(host) === (bracketed === undefined ? 4 : 6) && Number(port) > 0 && Number(port) < 65_536
  return isRight ? { kind: kind as 'tcp' | 'ssl', host, port: Number(port) } : refuse()
}
