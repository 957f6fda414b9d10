// One switch and its database, as long as something is asked of it.

import { OvsdbError, OvsError } from '../errors.ts'
import { COLUMNS, errorOf, type FoundPort, findPorts, ofportOf } from './ovs-rows.ts'
import { OvsdbClient } from './ovsdb/client.ts'
import type { Monitor } from './ovsdb/monitor.ts'
import type { Database } from './ovsdb/options.ts'
import type { Operation, OperationResult } from './ovsdb/transaction.ts'
import type { Row } from './ovsdb/values.ts'

const DATABASE = 'Open_vSwitch'

const RUNNING_HINT = 'Is ovs-vswitchd running? systemctl status openvswitch-switch, and its log.'

export class OvsSwitch {
  readonly database: Database
  readonly #client: OvsdbClient
  readonly #monitor: Monitor
  /** Until when all that is asked must be done. */
  readonly signal: AbortSignal

  private constructor(database: Database, client: OvsdbClient, monitor: Monitor, signal: AbortSignal) {
    this.database = database
    this.#client = client
    this.#monitor = monitor
    this.signal = signal
  }

  /**
   * Does something with a switch, in `timeoutMs` in all.
   * @throws {OvsdbError} where there is none
   */
  static async with<T>(database: Database, work: (ovs: OvsSwitch) => Promise<T>): Promise<T> {
    const { db, timeoutMs } = database
    const late = new AbortController()
    const timer = setTimeout(() => {
      const problem = `${db}: Open vSwitch has not done it within ${timeoutMs} ms`
      late.abort(new OvsError('ERR_OVS_TIMEOUT', problem, { hint: RUNNING_HINT, context: { db, timeoutMs } }))
    }, timeoutMs)
    let client: OvsdbClient | undefined
    try {
      // What the client waits for has its own words for a server that is silent.
      client = await OvsdbClient.connect(database)
      const monitor = await client.monitor(DATABASE, COLUMNS)
      return await work(new OvsSwitch(database, client, monitor, late.signal))
    } finally {
      client?.close()
      clearTimeout(timer)
    }
  }

  /** Whether it is of this host for sure. */
  get isLocal(): boolean {
    return this.database.db.startsWith('unix:')
  }

  /** The row of the whole switch. */
  get root(): Row {
    return this.#monitor.rows(DATABASE)[0]?.[1] ?? {}
  }

  ports(): FoundPort[] {
    return findPorts((table) => this.#monitor.rows(table))
  }

  port(name: string): FoundPort | undefined {
    return this.ports().find((port) => port.name === name)
  }

  /** @throws {OvsError} `ERR_OVS_BRIDGE` */
  bridge(name: string): [id: string, row: Row] {
    const found = this.#monitor.named('Bridge', name)
    if (found !== undefined) return found
    const others = this.#monitor
      .rows('Bridge')
      .map(([, row]) => String(row.name))
      .sort()
    throw new OvsError('ERR_OVS_BRIDGE', `${this.database.db} has no bridge '${name}'`, {
      hint: `${others.length === 0 ? 'It has none' : `It has ${others.join(', ')}`}: ovs-vsctl add-br ${name}.`,
      context: { bridge: name },
    })
  }

  hasBridge(name: string): boolean {
    return this.#monitor.named('Bridge', name) !== undefined
  }

  async read(operations: readonly Operation[]): Promise<OperationResult[]> {
    return await this.#client.transact(DATABASE, operations, this.signal)
  }

  /**
   * Changes the configuration. Where the connection is lost meanwhile, looks again at what is there, by `plan`, until it
   * finds nothing to do.
   * @param plan the operations, from what the database holds now; undefined where it is as it shall be.
   * @returns the number that `cur_cfg` reaches when the switch has done it, or undefined where nothing was to do.
   */
  async change(plan: () => readonly Operation[] | undefined): Promise<number | undefined> {
    for (let tried = false; ; tried = true) {
      const operations = plan()
      if (operations === undefined) return tried ? Number(this.root.next_cfg) : undefined
      try {
        return await this.#commit(operations)
      } catch (error) {
        if (!(error instanceof OvsdbError) || error.code !== 'ERR_OVSDB_LOST') throw error
        // Any answer comes after the monitor was read anew.
        await this.read([])
      }
    }
  }

  async #commit(operations: readonly Operation[]): Promise<number> {
    const results = await this.read([
      ...operations,
      { op: 'mutate', table: DATABASE, where: [], mutations: [['next_cfg', '+=', 1]] },
      { op: 'select', table: DATABASE, where: [], columns: ['next_cfg'] },
      { op: 'comment', comment: 'vhost-net' },
    ])
    return Number(results[operations.length + 1]?.rows?.[0]?.next_cfg)
  }

  /** Resolves when the switch has done all up to that change. @throws {OvsError} `ERR_OVS_TIMEOUT` */
  async done(change: number): Promise<void> {
    await this.#monitor.until(() => Number(this.root.cur_cfg) >= change || undefined, this.signal)
  }

  /** What `look` finds, now or later. @throws {OvsError} `ERR_OVS_TIMEOUT`, and what `look` throws */
  async until<T>(look: () => T | undefined): Promise<T> {
    return await this.#monitor.until(look, this.signal)
  }

  /**
   * Resolves to a port's number in OpenFlow when the switch has opened its link.
   * @throws {OvsError} `ERR_OVS_PORT`: it could not. `ERR_OVS_TIMEOUT`
   */
  async opened(name: string): Promise<number> {
    return await this.until(() => {
      const row = this.port(name)?.interface
      if (row === undefined) throw new OvsError('ERR_OVS_PORT', `somebody has removed port '${name}'`)
      const error = errorOf(row)
      if (error !== undefined) {
        throw new OvsError('ERR_OVS_PORT', `Open vSwitch cannot make a port of '${name}': ${error}`, {
          hint: `Does the link exist in ovs-vswitchd's network namespace, and in no bridge? ip -d link show ${name}`,
          context: { ifname: name, error },
        })
      }
      return ofportOf(row)
    })
  }
}
