// Tables kept as the server has them, from its updates: RFC 7047 sections 4.1.5 and 4.1.6.

import { OvsdbError } from '../../errors.ts'
import type { Row } from './values.ts'

/** Which columns of which tables. */
export type Columns = Readonly<Record<string, readonly string[]>>

/** Rows by their identifiers, by table. */
export type Tables = ReadonlyMap<string, ReadonlyMap<string, Row>>

type RowUpdate = { readonly old?: Row; readonly new?: Row }
type TableUpdates = Readonly<Record<string, Readonly<Record<string, RowUpdate>>>>

interface Waiting {
  readonly look: () => void
}

export class Monitor {
  readonly database: string
  readonly columns: Columns
  #tables = new Map<string, Map<string, Row>>()
  readonly #waiting = new Set<Waiting>()
  readonly #onChange: (() => void) | undefined

  /** @internal see `OvsdbClient.monitor` */
  constructor(database: string, columns: Columns, onChange?: () => void) {
    this.database = database
    this.columns = columns
    this.#onChange = onChange
  }

  /** The rows now: a view that changes. */
  get tables(): Tables {
    return this.#tables
  }

  /** The rows of one table. */
  rows(table: string): [id: string, row: Row][] {
    return [...(this.#tables.get(table) ?? [])]
  }

  /** The first row with this name. */
  named(table: string, name: string): [id: string, row: Row] | undefined {
    return this.rows(table).find(([, row]) => row.name === name)
  }

  /**
   * What `look` finds, now or after the first change with which it finds something.
   * @param signal gives the wait up, with its own reason.
   * @throws what `look` throws
   */
  async until<T>(look: () => T | undefined, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const found = look()
    if (found !== undefined) return found
    return await new Promise<T>((resolve, reject) => {
      const settle = (): void => {
        this.#waiting.delete(waiting)
        signal.removeEventListener('abort', aborted)
      }
      const aborted = (): void => {
        settle()
        reject(signal.reason)
      }
      const waiting = {
        look: () => {
          try {
            const found = look()
            if (found === undefined) return
            settle()
            resolve(found)
          } catch (error) {
            settle()
            reject(error)
          }
        },
      }
      this.#waiting.add(waiting)
      signal.addEventListener('abort', aborted)
    })
  }

  /** @internal All there is, in place of what there was. */
  replace(initial: unknown): void {
    const tables = this.#tables
    this.#tables = new Map()
    try {
      this.#apply(initial)
    } catch (error) {
      this.#tables = tables
      throw error
    }
    this.#changed()
  }

  /** @internal What has changed. */
  update(updates: unknown): void {
    this.#apply(updates)
    this.#changed()
  }

  #apply(updates: unknown): void {
    if (typeof updates !== 'object' || updates === null) {
      throw new OvsdbError('ERR_OVSDB_PROTOCOL', 'an update that is no object')
    }
    for (const [table, rows] of Object.entries(updates as TableUpdates)) {
      const known = this.#tables.get(table) ?? new Map<string, Row>()
      this.#tables.set(table, known)
      for (const [id, { new: row }] of Object.entries(rows)) {
        if (row === undefined) known.delete(id)
        else known.set(id, row)
      }
    }
  }

  #changed(): void {
    for (const { look } of [...this.#waiting]) look()
    this.#onChange?.()
  }
}
