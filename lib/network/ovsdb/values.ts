// Values of a database as they go over the wire: RFC 7047 section 5.1.

/** Integers beyond 2^53, which only a counter would reach, lose their last digits. */
export type Atom = string | number | boolean | readonly ['uuid' | 'named-uuid', string]

/** A set of exactly one is written as its element. */
export type Value = Atom | readonly ['set', readonly Atom[]] | readonly ['map', readonly (readonly [Atom, Atom])[]]

export type Row = Readonly<Record<string, Value>>

export const uuid = (id: string): Atom => ['uuid', id]

/** Of a row that the same transaction inserts. */
export const namedUuid = (name: string): Atom => ['named-uuid', name]

export const set = (atoms: readonly Atom[]): Value => ['set', atoms]

export const map = (pairs: Readonly<Record<string, string>>): Value => ['map', Object.entries(pairs)]

/** The elements of a column that is a set or a scalar; none where the column is missing. */
export function elements(value: Value | undefined): readonly Atom[] {
  if (value === undefined) return []
  return Array.isArray(value) && value[0] === 'set' ? value[1] : [value as Atom]
}

/** The only element of an optional column. */
export const optional = (value: Value | undefined): Atom | undefined => elements(value)[0]

/** The identifier of each row that a column refers to. */
export const references = (value: Value | undefined): string[] =>
  elements(value).flatMap((atom) => (Array.isArray(atom) ? [atom[1] as string] : []))

/** A map from strings, as an object without prototype. */
export function entries(value: Value | undefined): Record<string, Atom> {
  const found = Object.create(null) as Record<string, Atom>
  if (!Array.isArray(value) || value[0] !== 'map') return found
  for (const [key, each] of value[1] as readonly (readonly [string, Atom])[]) found[key] = each
  return found
}
