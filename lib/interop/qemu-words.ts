// How QEMU writes options (util/qemu-option.c, util/cutils.c): `driver,key=value,key=value`, a comma in a value as two.

import { InvalidOptionError } from '../errors.ts'
import { unknownOption } from '../options.ts'

/** Of one option of the command line, by their names. */
export class QemuWords {
  /** Where they stand, for messages: `'netdev'`, later `'netdev[n0]'`. */
  place: string
  readonly #values: ReadonlyMap<string, string[]>
  readonly #taken = new Set<string>()

  /**
   * @param implied the name of a first word without one: of `tap` in `tap,id=n0` it is `type`; all need one where it is not
   *   given
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE`
   */
  constructor(text: string, place: string, implied?: string) {
    this.place = place
    const values = new Map<string, string[]>()
    for (const [i, word] of split(text).entries()) {
      const equals = word.indexOf('=')
      if (word === '')
        throw new InvalidOptionError('ERR_OPTION_RANGE', place, 'has nothing between two commas, or at an end')
      const name = equals < 0 ? (i === 0 ? implied : undefined) : word.slice(0, equals)
      if (name === undefined) throw this.error('ERR_OPTION_RANGE', word, 'has no value', `Write ${word}=…`)
      values.set(name, [...(values.get(name) ?? []), word.slice(equals + 1)])
    }
    this.#values = values
  }

  /** What a word says; undefined where it is not there. @throws {InvalidOptionError} `ERR_OPTION_CONFLICT`: it is there twice */
  take(name: string): string | undefined {
    const [value, ...others] = this.takeAll(name)
    if (others.length > 0) throw this.error('ERR_OPTION_CONFLICT', name, 'is there twice')
    return value
  }

  /** What a word says each time it is there, as QEMU has lists: `hostfwd=…,hostfwd=…`. */
  takeAll(name: string): readonly string[] {
    this.#taken.add(name)
    return this.#values.get(name) ?? []
  }

  /** @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
  takeSwitch(name: string): boolean | undefined {
    const value = this.take(name)
    if (value === undefined) return undefined
    if (value === 'on' || value === 'off') return value === 'on'
    throw this.error('ERR_OPTION_RANGE', name, `must be on or off, not '${value}'`)
  }

  /** A plain decimal number. @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
  takeInteger(name: string): number | undefined {
    const value = this.take(name)
    return value === undefined ? undefined : this.integer(name, value)
  }

  integer(name: string, text: string): number {
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (Number.isSafeInteger(number)) return number
    throw this.error('ERR_OPTION_RANGE', name, `must be an integer, not '${text}'`)
  }

  /** Several, as `3:4:5`. @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
  takeIntegers(name: string): number[] | undefined {
    return this.take(name)
      ?.split(':')
      .map((fd) => this.integer(name, fd))
  }

  /**
   * After the last `take`: what was not asked for is unknown.
   * @throws {InvalidOptionError} `ERR_OPTION_UNKNOWN`, naming the nearest one that there is
   */
  end(): void {
    for (const name of this.#values.keys()) {
      if (!this.#taken.has(name)) throw unknownOption(this.#path(name), name, [...this.#taken])
    }
  }

  error(code: 'ERR_OPTION_RANGE' | 'ERR_OPTION_CONFLICT', name: string, problem: string, hint?: string) {
    return new InvalidOptionError(code, this.#path(name), problem, hint === undefined ? {} : { hint })
  }

  #path(name: string): string {
    return `${this.place}.${name}`
  }
}

/** At single commas; two of them are one that belongs to the word. */
function split(text: string): string[] {
  const words = ['']
  for (const [part] of text.matchAll(/,,|,|[^,]+/g)) {
    if (part === ',') words.push('')
    else words[words.length - 1] += part === ',,' ? ',' : part
  }
  return words
}
