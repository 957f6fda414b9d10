// Interrupts that reach a handler in this process: a device's eventfds are watched, as a CPU would watch its line.

import assert from 'node:assert/strict'
import { type EventFd, type Interrupts, type Watch, watchReadable } from '../../lib/event/index.ts'

export class InterruptLine implements Interrupts {
  /** Called at each interrupt. */
  handler: (() => void) | undefined
  /** How many came. */
  count = 0
  readonly #watches = new Map<EventFd, Watch>()

  connect(vector: number, call: EventFd): void {
    assert.equal(vector, 0)
    const watch = watchReadable(call, () => {
      call.read()
      this.count++
      this.handler?.()
    })
    this.#watches.set(call, watch)
  }

  disconnect(_vector: number, call: EventFd): void {
    this.#watches.get(call)?.stop()
    assert.ok(this.#watches.delete(call))
  }

  mask(): void {
    assert.fail('an MMIO transport masks nothing')
  }

  pending(): boolean {
    assert.fail('an MMIO transport asks for nothing')
  }
}
