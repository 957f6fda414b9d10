// What the kernel's tracing counts by itself: Documentation/trace/histogram.rst.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'

const TRACEFS = '/sys/kernel/tracing'

/** Makes tracing reachable. */
export function mountTracing(): void {
  if (existsSync(`${TRACEFS}/events`)) return
  mkdirSync(TRACEFS, { recursive: true })
  spawnSync('mount', ['-t', 'tracefs', 'tracefs', TRACEFS], { stdio: 'inherit' })
}

/** How often each of its values was seen; the value of several fields is joined by commas. */
export type Counted = ReadonlyMap<string, number>

/** @param text of a file `hist` */
export function parseHistogram(text: string): Counted {
  const found = text.matchAll(/^\{ (.*?) *\} hitcount: +(\d+)/gm)
  return new Map(
    [...found].map(([, keys, hits]) => [
      (keys as string)
        .split(',')
        .map((field) => field.slice(field.indexOf(':') + 1).trim())
        .join(),
      Number(hits),
    ]),
  )
}

/** What was added from one reading to a later one. */
export function difference(before: Counted, after: Counted): Map<string, number> {
  const added = [...after].map(([key, hits]): [string, number] => [key, hits - (before.get(key) ?? 0)])
  return new Map(added.filter(([, hits]) => hits > 0))
}

/** Counts an event by some of its fields, from its construction on. */
export class Histogram {
  readonly #directory: string
  readonly #trigger: string

  /** @param event `'kvm/kvm_exit'` @param keys `'exit_reason'` */
  constructor(event: string, keys: string) {
    this.#directory = `${TRACEFS}/events/${event}`
    this.#trigger = `hist:keys=${keys}:size=4096`
    writeFileSync(`${this.#directory}/trigger`, this.#trigger)
  }

  read(): Counted {
    return parseHistogram(readFileSync(`${this.#directory}/hist`, 'utf8'))
  }

  [Symbol.dispose](): void {
    writeFileSync(`${this.#directory}/trigger`, `!${this.#trigger}`)
  }
}

/** Keeps the first time an event comes, in a buffer of its own: what comes later is not even written. */
export class FirstEvent {
  readonly #instance: string
  readonly #event: string
  readonly #next: string
  readonly #trigger: string

  /** @param event `'kvm/kvm_entry'` @param next what comes after each: an event cannot end itself without being lost */
  constructor(name: string, event: string, next: string) {
    this.#instance = `${TRACEFS}/instances/${name}`
    this.#event = `${this.#instance}/events/${event}`
    this.#next = `${this.#instance}/events/${next}`
    this.#trigger = `disable_event:${event.replace('/', ':')}:1`
    mkdirSync(this.#instance, { recursive: true })
    writeFileSync(`${this.#instance}/trace_clock`, 'mono')
    writeFileSync(`${this.#next}/trigger`, this.#trigger)
    writeFileSync(`${this.#event}/enable`, '1')
  }

  /** CLOCK_MONOTONIC; undefined where it did not come. */
  get ns(): bigint | undefined {
    return firstTime(readFileSync(`${this.#instance}/trace`, 'utf8'))
  }

  [Symbol.dispose](): void {
    writeFileSync(`${this.#event}/enable`, '0')
    writeFileSync(`${this.#next}/trigger`, `!${this.#trigger}`)
    rmdirSync(this.#instance)
  }
}

/** @param trace of a buffer: ` node-123 [000] d.... 12345.678901: kvm_entry: vcpu 0` */
export function firstTime(trace: string): bigint | undefined {
  const [, seconds, micro] = /^[^#].* (\d+)\.(\d{6}): /m.exec(trace) ?? []
  return seconds === undefined ? undefined : BigInt(seconds) * 1_000_000_000n + BigInt(micro as string) * 1000n
}
