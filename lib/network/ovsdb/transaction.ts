// Transactions: what they are made of, and what the server makes of them. RFC 7047 sections 4.1.3 and 5.2.

import { OvsdbError } from '../../errors.ts'
import type { Row, Value } from './values.ts'

export type Condition = readonly [
  column: string,
  comparison: '==' | '!=' | 'includes' | 'excludes' | '<' | '>',
  value: Value,
]

export type Mutation = readonly [column: string, mutator: '+=' | 'insert' | 'delete', value: Value]

interface OnTable {
  readonly table: string
}

export type Operation =
  | (OnTable & { readonly op: 'insert'; readonly row: Row; readonly 'uuid-name'?: string })
  | (OnTable & { readonly op: 'select'; readonly where: readonly Condition[]; readonly columns?: readonly string[] })
  | (OnTable & { readonly op: 'update'; readonly where: readonly Condition[]; readonly row: Row })
  | (OnTable & { readonly op: 'mutate'; readonly where: readonly Condition[]; readonly mutations: readonly Mutation[] })
  | (OnTable & { readonly op: 'delete'; readonly where: readonly Condition[] })
  | { readonly op: 'comment'; readonly comment: string }

/** Of one operation: what its kind answers. */
export interface OperationResult {
  readonly uuid?: readonly ['uuid', string]
  readonly count?: number
  readonly rows?: readonly Row[]
}

/** By the error's name in the protocol. */
const hints: Readonly<Record<string, string>> = {
  'constraint violation': 'A value is outside the range of its column, or a name is taken: ovs-vswitchd.conf.db(5).',
  'referential integrity violation':
    'A row that was referred to was deleted meanwhile, or something refers to it still.',
  'resources exhausted': 'The server has too little memory or disk.',
  'I/O error': 'The server cannot write its database: is its file system full?',
  'timed out': 'What the operation waited for did not come about.',
  aborted: 'The transaction gave itself up.',
  'not owner': 'Another client holds the lock.',
  'not allowed': 'The server lets this client only read: its remote may be of a read-only role.',
  'not supported': 'The server is too old for it.',
}

interface Failure {
  readonly error: string
  readonly details?: string
}

const isFailure = (result: unknown): result is Failure =>
  typeof result === 'object' && result !== null && typeof (result as Failure).error === 'string'

/**
 * The results of a transaction's operations.
 * @throws {OvsdbError} `ERR_OVSDB_REFUSED` where one failed, or the whole when it was to be committed: nothing was done.
 */
export function parseResults(reply: unknown, operations: readonly Operation[], server: string): OperationResult[] {
  if (!Array.isArray(reply) || reply.length < operations.length) {
    throw new OvsdbError(
      'ERR_OVSDB_PROTOCOL',
      `${server} answered ${operations.length} operations with no list of them`,
    )
  }
  const at = reply.findIndex(isFailure)
  if (at < 0) return reply as OperationResult[]
  const { error, details = '' } = reply[at] as Failure
  // One more than there are operations: the sum of them could not be committed.
  const operation = operations[at]
  const what =
    operation === undefined
      ? 'the commit'
      : 'table' in operation
        ? `${operation.op} in ${operation.table}`
        : operation.op
  const hint = hints[error]
  throw new OvsdbError('ERR_OVSDB_REFUSED', `${server} refused ${what}: ${error}${details && `: ${details}`}`, {
    ...(hint === undefined ? {} : { hint }),
    context: { error, details, operation: at },
  })
}
