// Whether used buffers came that the driver has not acknowledged: read from the rings, so that it needs no wake-up.

import type { Virtqueue } from '../virtio/index.ts'

/** Used indexes of one queue. */
interface Marks {
  /** As it was at the last read that the driver acknowledged. */
  acknowledged: number
  /** As it was at the last read. */
  read: number
}

/**
 * The used-buffer bit of an interrupt status. A used index that moved by exactly 65,536 since the last acknowledged read
 * looks as if it had not moved: nothing in the ring tells the two apart.
 */
export class UsedMoved {
  readonly #marks = new Map<Virtqueue, Marks>()
  /** A queue was disabled with buffers not acknowledged; and whether a read has shown that. */
  #left = false
  #leftRead = false

  /** The queue is about to be enabled: its used index begins at 0, and may move at once. */
  begin(queue: Virtqueue): void {
    this.#marks.set(queue, { acknowledged: 0, read: 0 })
  }

  /** The queue is about to be disabled: what was used stays to be acknowledged. */
  end(queue: Virtqueue): void {
    const marks = this.#marks.get(queue)
    if (marks !== undefined && (queue.usedIndex() ?? 0) !== marks.acknowledged) this.#left = true
    this.#marks.delete(queue)
  }

  /** Whether some used index has moved since the last acknowledged read. */
  read(): boolean {
    let moved = this.#left
    this.#leftRead = this.#left
    for (const [queue, marks] of this.#marks) {
      marks.read = queue.usedIndex() ?? marks.read
      if (marks.read !== marks.acknowledged) moved = true
    }
    return moved
  }

  /** The driver acknowledges what the last read showed, and nothing that came after. */
  acknowledge(): void {
    if (this.#leftRead) this.#left = false
    for (const marks of this.#marks.values()) marks.acknowledged = marks.read
  }

  reset(): void {
    this.#marks.clear()
    this.#left = false
    this.#leftRead = false
  }
}
