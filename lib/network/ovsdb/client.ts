// An OVSDB client that outlives its connections: it connects again, and its monitors go on.

import { setTimeout } from 'node:timers/promises'
import { OvsdbError, StateError } from '../../errors.ts'
import { connectRemote } from './connect.ts'
import { OvsdbConnection } from './connection.ts'
import { type Columns, Monitor } from './monitor.ts'
import type { Database } from './options.ts'
import { type Operation, type OperationResult, parseResults } from './transaction.ts'

/** Between attempts to connect again: the first, and twice the last one up to the most. */
const BACKOFF_MS = { least: 20, most: 8000 } as const

export interface ClientOptions extends Database {
  /** See `ConnectionOptions.probeMs`. */
  readonly probeMs?: number
}

export class OvsdbClient {
  readonly #options: ClientOptions
  readonly #monitors = new Map<string, Monitor>()
  readonly #closing = new AbortController()
  #names = 0
  /** The connection, or the one that is to come. */
  #connection!: Promise<OvsdbConnection>
  #current: OvsdbConnection | undefined
  /** Why there was none, last. */
  #failure: OvsdbError | undefined
  #reconnects = 0

  private constructor(options: ClientOptions) {
    this.#options = options
  }

  /**
   * Connects.
   * @throws {OvsdbError} `ERR_OVSDB_UNREACHABLE`, `ERR_OVSDB_TLS`, `ERR_OVSDB_TIMEOUT` after `timeoutMs`
   */
  static async connect(options: ClientOptions, signal?: AbortSignal): Promise<OvsdbClient> {
    const client = new OvsdbClient(options)
    client.#use(await client.#connect(signal))
    return client
  }

  /** How often it has connected again. */
  get reconnects(): number {
    return this.#reconnects
  }

  /**
   * Does all operations, or none. Waits for a connection where there is none at the moment.
   * @throws {OvsdbError} `ERR_OVSDB_REFUSED`: an operation was. `ERR_OVSDB_LOST`: the connection ended meanwhile, and
   *   whether they were done is not known. `ERR_OVSDB_TIMEOUT`
   */
  async transact(database: string, operations: readonly Operation[], signal?: AbortSignal): Promise<OperationResult[]> {
    const { db } = this.#options
    return await this.#inTime(signal, async (limit) => {
      const connection = await this.#connected(limit)
      const parse = (reply: unknown): OperationResult[] => parseResults(reply, operations, db)
      return await connection.request('transact', [database, ...operations], parse, limit)
    })
  }

  /**
   * Keeps these tables as the server has them, until the client is closed. Resolves when they are there.
   * @param onChange called after each change of them, and after they were read anew on another connection.
   */
  async monitor(database: string, columns: Columns, onChange?: () => void, signal?: AbortSignal): Promise<Monitor> {
    const name = `m${this.#names++}`
    const monitor = new Monitor(database, columns, onChange)
    await this.#inTime(signal, async (limit) => {
      for (;;) {
        const connection = await this.#connected(limit)
        try {
          await this.#subscribe(connection, name, monitor, limit)
          this.#monitors.set(name, monitor)
          return
        } catch (error) {
          // Only read: it can be asked again.
          if (!isLoss(error) || this.#closing.signal.aborted) throw error
        }
      }
    })
    return monitor
  }

  close(): void {
    this.#closing.abort(new StateError('ERR_CLOSED', `the client of ${this.#options.db} was closed`))
    this.#current?.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async #connect(signal: AbortSignal | undefined): Promise<OvsdbConnection> {
    const { db, tls, probeMs } = this.#options
    return await this.#inTime(signal, async (limit) => {
      const socket = await connectRemote(db, tls, limit)
      const connection: OvsdbConnection = new OvsdbConnection(socket, {
        remote: db,
        onNotification: (method, params) => this.#notified(method, params),
        // One that is not in use yet is left by who made it.
        onLost: (why) => connection === this.#current && this.#lost(why),
        ...(probeMs === undefined ? {} : { probeMs }),
      })
      return connection
    })
  }

  #use(connection: OvsdbConnection): void {
    if (connection.over !== undefined) throw connection.over
    this.#failure = undefined
    this.#current = connection
    this.#connection = Promise.resolve(connection)
  }

  #notified(method: string, [name, updates]: readonly unknown[]): void {
    // The update may be of a monitor whose wait was given up.
    if (method === 'update') this.#monitors.get(name as string)?.update(updates)
  }

  async #subscribe(connection: OvsdbConnection, name: string, monitor: Monitor, signal: AbortSignal): Promise<void> {
    const requests = Object.entries(monitor.columns).map(([table, columns]) => [table, { columns }])
    const params = [monitor.database, name, Object.fromEntries(requests)]
    const began = (initial: unknown): void => {
      monitor.replace(initial)
      this.#monitors.set(name, monitor)
    }
    await connection.request('monitor', params, began, signal)
  }

  #lost(why: OvsdbError): void {
    this.#failure = why
    this.#current = undefined
    this.#connection = this.#reconnect()
    // Nobody may wait for it.
    this.#connection.catch(() => undefined)
  }

  async #reconnect(): Promise<OvsdbConnection> {
    const { signal } = this.#closing
    for (let wait: number = BACKOFF_MS.least; ; wait = Math.min(2 * wait, BACKOFF_MS.most)) {
      await setTimeout(wait, undefined, { signal })
      let connection: OvsdbConnection | undefined
      try {
        connection = await this.#connect(signal)
        for (const [name, monitor] of this.#monitors) await this.#subscribe(connection, name, monitor, signal)
        this.#use(connection)
        this.#reconnects++
        return connection
      } catch (error) {
        connection?.close()
        if (signal.aborted) throw error
        if (!(error instanceof OvsdbError)) throw error
        this.#failure = error
      }
    }
  }

  async #connected(signal: AbortSignal): Promise<OvsdbConnection> {
    signal.throwIfAborted()
    return await new Promise((resolve, reject) => {
      const aborted = (): void => reject(signal.reason)
      signal.addEventListener('abort', aborted, { once: true })
      this.#connection.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted))
    })
  }

  /** Does it within `timeoutMs`, until the caller's signal, and until the client is closed. */
  async #inTime<T>(signal: AbortSignal | undefined, work: (limit: AbortSignal) => Promise<T>): Promise<T> {
    const { db, timeoutMs } = this.#options
    const late = new AbortController()
    const timer = globalThis.setTimeout(() => {
      const why = this.#failure === undefined ? '' : `: ${this.#failure.message}`
      const problem = `${db} has not answered within ${timeoutMs} ms${why}`
      late.abort(new OvsdbError('ERR_OVSDB_TIMEOUT', problem, { context: { remote: db }, cause: this.#failure }))
    }, timeoutMs)
    const signals = [late.signal, this.#closing.signal, ...(signal === undefined ? [] : [signal])]
    try {
      return await work(AbortSignal.any(signals))
    } finally {
      clearTimeout(timer)
    }
  }
}

const isLoss = (error: unknown): boolean => error instanceof OvsdbError && error.code === 'ERR_OVSDB_LOST'
