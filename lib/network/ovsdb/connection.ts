// JSON-RPC 1.0 over one stream: requests answered by their ids, notifications, and echo both ways. RFC 7047 section 4.

import type { Socket } from 'node:net'
import { OvsdbError } from '../../errors.ts'
import { streamError } from './connect.ts'
import { JsonSplitter } from './splitter.ts'

/** How long a server may be silent before it is asked whether it lives; and again so long for its answer. As in OVS. */
export const PROBE_MS = 5000

/** The id of our own echo. */
const PROBE = 'echo'

export interface ConnectionOptions {
  /** For messages. */
  readonly remote: string
  readonly onNotification: (method: string, params: readonly unknown[]) => void
  /** Called once, when it is over; not after {@link OvsdbConnection.close}. */
  readonly onLost: (why: OvsdbError) => unknown
  /** Default {@link PROBE_MS}. */
  readonly probeMs?: number
}

interface Owed {
  readonly method: string
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
}

interface Message {
  readonly id?: unknown
  readonly method?: unknown
  readonly params?: unknown
  readonly result?: unknown
  readonly error?: unknown
}

export class OvsdbConnection {
  readonly #socket: Socket
  readonly #options: ConnectionOptions
  readonly #splitter = new JsonSplitter()
  readonly #owed = new Map<number, Owed>()
  readonly #probe: NodeJS.Timeout
  #ids = 0
  /** Whether anything came since the probe last looked, and whether it has asked. */
  #heard = false
  #asked = false
  #over: OvsdbError | undefined

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket
    this.#options = options
    const { remote, probeMs = PROBE_MS } = options
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('error', (error) => this.#lose(streamError(error, remote, 'lost')))
    socket.on('close', () => this.#ended())
    this.#probe = setInterval(() => this.#look(), probeMs).unref()
  }

  /**
   * Sends a request.
   * @param onReply given the result before anything that came behind it is looked at.
   * @param signal gives the wait up, with its own reason; the server does it nevertheless.
   * @throws {OvsdbError} `ERR_OVSDB_REFUSED`, `ERR_OVSDB_LOST` and what {@link ConnectionOptions.onLost} is told
   */
  async request<T>(
    method: string,
    params: readonly unknown[],
    onReply: (result: unknown) => T,
    signal?: AbortSignal,
  ): Promise<T> {
    signal?.throwIfAborted()
    if (this.#over !== undefined) throw this.#over
    const id = this.#ids++
    let aborted: (() => void) | undefined
    try {
      return await new Promise<T>((resolve, reject) => {
        const answer = (result: unknown): void => {
          try {
            resolve(onReply(result))
          } catch (error) {
            reject(error)
          }
        }
        this.#owed.set(id, { method, resolve: answer, reject })
        aborted = () => reject(signal?.reason)
        signal?.addEventListener('abort', aborted)
        this.#send({ id, method, params })
      })
    } finally {
      this.#owed.delete(id)
      if (aborted !== undefined) signal?.removeEventListener('abort', aborted)
    }
  }

  /** Why it is over; undefined as long as it is not. */
  get over(): OvsdbError | undefined {
    return this.#over
  }

  /** Ends it: what is owed is given up. */
  close(): void {
    this.#finish(new OvsdbError('ERR_OVSDB_LOST', `the connection to ${this.#options.remote} was closed`))
  }

  #send(message: object): void {
    this.#socket.write(JSON.stringify(message))
  }

  #read(chunk: Buffer): void {
    this.#heard = true
    try {
      for (const message of this.#splitter.push(chunk)) {
        if (this.#over === undefined) this.#take(message)
      }
    } catch (error) {
      this.#lose(this.#describe(error))
    }
  }

  #describe(error: unknown): OvsdbError {
    const { remote } = this.#options
    if (!(error instanceof OvsdbError)) throw error
    return new OvsdbError(error.code, `${remote}: ${error.message}`, { context: { remote }, cause: error })
  }

  #take({ id, method, params, result, error }: Message): void {
    if (typeof method === 'string' && Array.isArray(params)) {
      if (id === null || id === undefined) this.#options.onNotification(method, params)
      else if (method === 'echo') this.#send({ id, result: params, error: null })
      else this.#send({ id, result: null, error: { error: 'unknown method', details: method } })
      return
    }
    if (id === PROBE) return
    if (typeof id !== 'number' || id >= this.#ids || result === undefined) {
      throw new OvsdbError('ERR_OVSDB_PROTOCOL', 'a message that is no request and answers none')
    }
    // Where the wait was given up there is nobody.
    const owed = this.#owed.get(id)
    if (error === null || error === undefined) owed?.resolve(result)
    else owed?.reject(this.#refusal(owed.method, error))
  }

  #refusal(method: string, error: unknown): OvsdbError {
    const { remote } = this.#options
    const named = (typeof error === 'object' ? error : { error }) as { error?: unknown; details?: unknown }
    const [what, details] = [named.error, named.details].map((each) => (each === undefined ? '' : String(each)))
    const message = `${remote} refused ${method}: ${what}${details === '' ? '' : `: ${details}`}`
    return new OvsdbError('ERR_OVSDB_REFUSED', message, {
      context: { remote, method, error: what!, details: details! },
    })
  }

  #look(): void {
    if (this.#heard) {
      this.#heard = false
      this.#asked = false
    } else if (!this.#asked) {
      this.#asked = true
      this.#send({ id: PROBE, method: 'echo', params: [] })
    } else {
      const { remote } = this.#options
      const hint = 'The server hangs, or the network between is cut: see its log.'
      this.#lose(new OvsdbError('ERR_OVSDB_TIMEOUT', `${remote} does not answer`, { hint, context: { remote } }))
    }
  }

  #ended(): void {
    const { remote } = this.#options
    try {
      this.#splitter.end()
    } catch (error) {
      this.#lose(this.#describe(error))
      return
    }
    this.#lose(new OvsdbError('ERR_OVSDB_LOST', `${remote} has closed the connection`, { context: { remote } }))
  }

  #lose(why: OvsdbError): void {
    if (this.#finish(why)) this.#options.onLost(why)
  }

  /** @returns whether it was not over before. */
  #finish(why: OvsdbError): boolean {
    if (this.#over !== undefined) return false
    this.#over = why
    clearInterval(this.#probe)
    this.#socket.destroy()
    for (const { reject } of this.#owed.values()) reject(why)
    return true
  }
}
