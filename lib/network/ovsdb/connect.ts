// A stream to an OVSDB server: unix socket, TCP or TLS.

import { readFileSync } from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import { OvsdbError } from '../../errors.ts'
import type { OvsdbTls } from './options.ts'
import { parseRemote } from './remote.ts'

const hints: Readonly<Record<string, string>> = {
  ENOENT: 'Open vSwitch is not installed or not running: systemctl start openvswitch-switch.',
  ECONNREFUSED:
    'Nothing listens there: systemctl start openvswitch-switch; for TCP, ovs-vsctl set-manager ptcp:PORT:IP.',
  EACCES: 'This user may not connect: run as root, or join the group that owns the socket.',
  ETIMEDOUT: 'The host does not answer.',
  EHOSTUNREACH: 'There is no way to the host.',
  ENETUNREACH: 'There is no way to the host.',
}

const TLS_HINT = 'Both sides must have a certificate of the CA that the other one trusts: ovs-vsctl get-ssl.'

/** What is told where a stream to `remote` cannot be made, or broke. */
export function streamError(error: NodeJS.ErrnoException, remote: string, broken: 'lost' | 'unreachable'): OvsdbError {
  const { code = '', message } = error
  // Node's own codes of a handshake that went wrong, OpenSSL's of a chain that does not hold, or an alert of the other side.
  const isTls =
    /^(ERR_(SSL|TLS|OSSL)|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|EPROTO)/.test(code) ||
    (code === 'ECONNRESET' && broken === 'unreachable' && remote.startsWith('ssl:'))
  if (isTls) {
    return new OvsdbError('ERR_OVSDB_TLS', `TLS with ${remote} failed: ${message}`, {
      hint: TLS_HINT,
      context: { remote, cause: code },
      cause: error,
    })
  }
  const hint = hints[code]
  return broken === 'lost'
    ? new OvsdbError('ERR_OVSDB_LOST', `the connection to ${remote} broke: ${message}`, {
        context: { remote },
        cause: error,
      })
    : new OvsdbError('ERR_OVSDB_UNREACHABLE', `no OVSDB server at ${remote}: ${message}`, {
        ...(hint === undefined ? {} : { hint }),
        context: { remote, cause: code },
        cause: error,
      })
}

function readPem(file: string, what: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new OvsdbError('ERR_OVSDB_TLS', `the ${what} cannot be read: ${(error as Error).message}`, {
      context: { file },
      cause: error,
    })
  }
}

function openTls(remote: string, host: string, port: number, files: OvsdbTls): tls.TLSSocket {
  const key = readPem(files.privateKey, 'private key')
  const cert = readPem(files.certificate, 'certificate')
  const ca = readPem(files.caCert, 'CA certificate')
  try {
    // As OVS itself: whom the CA has signed is trusted, whatever its name.
    return tls.connect({ host, port, key, cert, ca, checkServerIdentity: () => undefined })
  } catch (error) {
    // Such as a file that is no PEM, or a key that is not the certificate's.
    throw streamError(Object.assign(error as Error, { code: 'ERR_OSSL' }), remote, 'unreachable')
  }
}

/**
 * Connects.
 * @param signal gives it up, with its own reason.
 * @throws {OvsdbError} `ERR_OVSDB_UNREACHABLE`, `ERR_OVSDB_TLS`
 */
export async function connectRemote(
  remote: string,
  files: OvsdbTls | undefined,
  signal?: AbortSignal,
): Promise<net.Socket> {
  signal?.throwIfAborted()
  const where = parseRemote(remote)
  const socket =
    where.kind === 'unix'
      ? net.connect(where.path)
      : where.kind === 'tcp'
        ? net.connect(where.port, where.host)
        : openTls(remote, where.host, where.port, files!)
  const ready = where.kind === 'ssl' ? 'secureConnect' : 'connect'
  return await new Promise<net.Socket>((resolve, reject) => {
    const settle = (): void => {
      socket.off(ready, connected).off('error', failed).off('close', closed)
      signal?.removeEventListener('abort', aborted)
    }
    const give = (error: unknown): void => {
      settle()
      // It may fail once more on its way out.
      socket.on('error', () => socket.destroy()).destroy()
      reject(error)
    }
    const connected = (): void => {
      settle()
      resolve(socket.setNoDelay?.() ?? socket)
    }
    const failed = (error: Error): void => give(streamError(error, remote, 'unreachable'))
    const closed = (): void => failed(new Error('it was closed at once'))
    const aborted = (): void => give(signal?.reason)
    socket.once(ready, connected).once('error', failed).once('close', closed)
    signal?.addEventListener('abort', aborted)
  })
}
