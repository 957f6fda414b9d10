// A PCI bus for tests: what a machine has around it, as far as that can be seen: memory, messages and a pin.

import assert from 'node:assert/strict'
import type {
  EventFd,
  InterruptPin,
  MemorySpace,
  Message,
  MessageInterrupts,
  Registers,
} from '../../lib/event/index.ts'
import { Ecam, PciBus } from '../../lib/pci/index.ts'

/** Windows at guest-physical addresses; what lies nowhere reads as ones. */
export class WindowedMemory implements MemorySpace {
  readonly windows = new Map<number, Registers>()

  /** Of two windows at one address the first is reached. */
  map(address: number, registers: Registers): () => void {
    if (this.windows.has(address)) return () => undefined
    this.windows.set(address, registers)
    return () => assert.ok(this.windows.delete(address))
  }

  read(address: number, width: number): number {
    const [at, window] = this.#find(address, width) ?? []
    return window === undefined ? 2 ** (8 * width) - 1 : window.read(address - at!, width)
  }

  write(address: number, width: number, value: number): void {
    const [at, window] = this.#find(address, width) ?? []
    window?.write(address - at!, width, value)
  }

  #find(address: number, width: number): [number, Registers] | undefined {
    return [...this.windows].find(([at, { size }]) => address >= at && address + width <= at + size)
  }
}

/** Messages that are noted instead of reaching a CPU, by the rules of the contract. */
export class NotedMessages implements MessageInterrupts {
  /** What was called, in order; `connect` of a vector that is not masked costs a system call with KVM, as `mask` does. */
  readonly log: string[] = []
  readonly connected = new Map<EventFd, number>()
  readonly masked = new Set<number>()
  /** In force. */
  messages = new Map<number, Message>()
  /** Called before each connection. */
  onConnect: (() => void) | undefined
  readonly #set = new Map<number, Message>()
  readonly #vectors: number

  constructor(vectors = 2048) {
    this.#vectors = vectors
  }

  connect(vector: number, call: EventFd): void {
    assert.ok(vector < this.#vectors && !this.connected.has(call))
    this.onConnect?.()
    this.connected.set(call, vector)
    this.log.push(`connect ${vector}`)
  }

  disconnect(vector: number, call: EventFd): void {
    assert.equal(this.connected.get(call), vector)
    this.connected.delete(call)
    this.log.push(`disconnect ${vector}`)
  }

  mask(vector: number, masked: boolean): void {
    assert.ok(vector < this.#vectors)
    assert.notEqual(this.masked.has(vector), masked, 'a mask that changes nothing')
    if (masked) this.masked.add(vector)
    else this.masked.delete(vector)
    if (!masked) assert.ok(this.messages.has(vector), 'a vector without a message is let go')
    this.log.push(`${masked ? 'mask' : 'unmask'} ${vector}`)
  }

  pending(vector: number): boolean {
    return this.masked.has(vector) && this.#calls(vector).some((call) => isSignalled(call))
  }

  setMessage(vector: number, message: Message | undefined): void {
    assert.ok(this.masked.has(vector), 'the message of a vector that is not masked changes')
    if (message === undefined) this.#set.delete(vector)
    else this.#set.set(vector, message)
  }

  commit(): void {
    this.messages = new Map(this.#set)
    this.log.push('commit')
  }

  #calls(vector: number): EventFd[] {
    return [...this.connected].filter(([, at]) => at === vector).map(([call]) => call)
  }

  /** How often each vector that is not masked was raised since this was asked last. */
  take(): Record<number, number> {
    const raised: Record<number, number> = {}
    for (const [call, vector] of this.connected) {
      if (this.masked.has(vector)) continue
      const signals = Number(call.read())
      if (signals > 0) raised[vector] = (raised[vector] ?? 0) + signals
    }
    return raised
  }

  /** What was called since this was asked last. */
  takeLog(): string[] {
    return this.log.splice(0)
  }
}

function isSignalled(call: EventFd): boolean {
  const count = call.read()
  if (count > 0n) call.signal(count)
  return count > 0n
}

/** A pin whose level, and changes, are noted. */
export class NotedPin implements InterruptPin {
  held = false
  changes = 0

  set(asserted: boolean): void {
    assert.notEqual(asserted, this.held)
    this.held = asserted
    this.changes++
  }
}

/** One bus. */
export class TestBus {
  readonly memory = new WindowedMemory()
  readonly bus = new PciBus(this.memory)
  readonly ecam = new Ecam(this.bus)

  /** The configuration space of a slot, as ECAM has it. */
  config(slot: number): Registers {
    const { ecam } = this
    return {
      size: 4096,
      read: (offset, width) => ecam.read(slot * 0x8000 + offset, width),
      write: (offset, width, value) => ecam.write(slot * 0x8000 + offset, width, value),
    }
  }
}
