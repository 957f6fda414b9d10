// Doorbells and interrupts of devices whose driver is in this process: what KVM is to a guest.

import { InvalidOptionError } from '../errors.ts'
import {
  type Doorbell,
  type Doorbells,
  type EventFd,
  type Message,
  type MessageInterrupts,
  type Watch,
  watchReadable,
} from '../event/index.ts'
import { Teardown } from '../teardown.ts'

interface Line {
  readonly vector: number
  /** While it is not masked. */
  watch: Watch | undefined
  /** What was taken from the eventfd to look whether there is something, and raises the interrupt later. */
  held: bigint
  /** What raised it. */
  signals: number
}

const keyOf = ({ address, width, value }: Doorbell): string => `${address} ${width ?? 'any'} ${value ?? 'any'}`

/**
 * A kick needs no turn through the device's registers: the driver asks which eventfd stands behind a write, and signals
 * that. An interrupt is a call of `handler` on this thread.
 */
export class LocalEvents implements Doorbells, MessageInterrupts {
  /** Called at each interrupt. */
  handler: (vector: number) => void = () => undefined
  readonly #doorbells = new Map<string, EventFd>()
  readonly #lines = new Map<EventFd, Line>()
  readonly #masked = new Set<number>()
  readonly #set = new Map<number, Message>()
  #messages: ReadonlyMap<number, Message> = new Map()

  /** @throws {InvalidOptionError} `ERR_OPTION_CONFLICT` where another doorbell takes the same writes */
  assign(doorbell: Doorbell, kick: EventFd): void {
    const key = keyOf(doorbell)
    if (this.#doorbells.has(key)) {
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'doorbell', 'another one takes the same writes')
    }
    this.#doorbells.set(key, kick)
  }

  deassign(doorbell: Doorbell): void {
    this.#doorbells.delete(keyOf(doorbell))
  }

  /** The eventfd that such a write signals; undefined where no doorbell takes it, and it goes to the registers. */
  doorbell(write: Required<Doorbell>): EventFd | undefined {
    const { address, width } = write
    const candidates: readonly Doorbell[] = [write, { address, width }, { address }]
    return candidates.map((candidate) => this.#doorbells.get(keyOf(candidate))).find((kick) => kick !== undefined)
  }

  connect(vector: number, call: EventFd): void {
    const line: Line = { vector, watch: undefined, held: 0n, signals: 0 }
    if (!this.#masked.has(vector)) this.#watch(line, call)
    this.#lines.set(call, line)
  }

  disconnect(_vector: number, call: EventFd): void {
    const line = this.#lines.get(call)
    if (line === undefined) return
    this.#lines.delete(call)
    const all = new Teardown()
    all.add(() => {
      if (line.held > 0n) call.signal(line.held)
    })
    all.add(() => line.watch?.stop())
    all.run()
  }

  mask(vector: number, masked: boolean): void {
    if (masked) this.#masked.add(vector)
    else this.#masked.delete(vector)
    let raised = false
    for (const [call, line] of this.#of(vector)) {
      if (masked) {
        line.watch?.stop()
        line.watch = undefined
      } else if (line.watch === undefined) {
        raised = this.#take(line, call) || raised
        this.#watch(line, call)
      }
    }
    if (raised) this.handler(vector)
  }

  pending(vector: number): boolean {
    const lines = this.#of(vector).filter(([, line]) => line.watch === undefined)
    for (const [call, line] of lines) line.held += call.read()
    return lines.some(([, line]) => line.held > 0n)
  }

  setMessage(vector: number, message: Message | undefined): void {
    if (message === undefined) this.#set.delete(vector)
    else this.#set.set(vector, message)
  }

  commit(): void {
    this.#messages = new Map(this.#set)
  }

  /** The messages in force, by vector. They are noted, and go nowhere: an interrupt is known by its vector here. */
  get messages(): ReadonlyMap<number, Message> {
    return this.#messages
  }

  /** How many signals of this eventfd have raised its interrupt since it was connected. */
  signals(call: EventFd): number {
    return this.#lines.get(call)?.signals ?? 0
  }

  #of(vector: number): [EventFd, Line][] {
    return [...this.#lines].filter(([, line]) => line.vector === vector)
  }

  #watch(line: Line, call: EventFd): void {
    line.watch = watchReadable(call, () => {
      if (this.#take(line, call)) this.handler(line.vector)
    })
  }

  #take(line: Line, call: EventFd): boolean {
    const signals = call.read() + line.held
    line.held = 0n
    line.signals += Number(signals)
    return signals > 0n
  }
}
