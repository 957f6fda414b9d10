// Which database, and how long it is waited for.

import { InvalidOptionError } from '../../errors.ts'
import { checkInteger, checkObject, checkString } from '../../options.ts'
import { DEFAULT_REMOTE, parseRemote } from './remote.ts'

/** Files in PEM, as ovs-vsctl's `--private-key`, `--certificate` and `--ca-cert`. */
export interface OvsdbTls {
  readonly privateKey: string
  readonly certificate: string
  readonly caCert: string
}

/** Where the database of a switch is. */
export interface OvsdbOptions {
  /** `unix:PATH`, `tcp:IP:PORT` or `ssl:IP:PORT`. Default `unix:/run/openvswitch/db.sock`. */
  readonly db?: string
  /** Needed by `ssl:`. */
  readonly tls?: OvsdbTls
  /** How long the switch may take for what is asked of it, in milliseconds. Default 10000. */
  readonly timeoutMs?: number
}

/** The same with the defaults in it. */
export type Database = OvsdbOptions & Required<Omit<OvsdbOptions, 'tls'>>

export const DATABASE_KEYS = ['db', 'tls', 'timeoutMs'] as const

const DEFAULT_TIMEOUT_MS = 10_000
/** Of a timer. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/** @throws {InvalidOptionError} `ERR_OPTION_*` */
export function checkDatabase(value: unknown, path = 'ovs'): Database {
  const { db, tls, timeoutMs } = checkObject(value, DATABASE_KEYS, path)
  const remote = checkString(db, `${path}.db`, DEFAULT_REMOTE)
  const { kind } = parseRemote(remote, `${path}.db`)
  if ((kind === 'ssl') !== (tls !== undefined)) {
    const problem = kind === 'ssl' ? `is needed for ${remote}` : `is only for a remote that is ssl:, not ${remote}`
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', `${path}.tls`, problem)
  }
  return {
    db: remote,
    timeoutMs: checkInteger(timeoutMs, `${path}.timeoutMs`, 1, MAX_TIMEOUT_MS, DEFAULT_TIMEOUT_MS),
    ...(tls === undefined ? {} : { tls: checkTls(tls, `${path}.tls`) }),
  }
}

function checkTls(value: unknown, path: string): OvsdbTls {
  const files = checkObject(value, ['privateKey', 'certificate', 'caCert'], path)
  return {
    privateKey: checkString(files.privateKey, `${path}.privateKey`),
    certificate: checkString(files.certificate, `${path}.certificate`),
    caCert: checkString(files.caCert, `${path}.caCert`),
  }
}
