// Undo steps, written beside what they undo and run in reverse order.

/** A stack of undo steps. Run on failure or on close; every step runs even where another fails. */
export class Teardown {
  readonly #steps: (() => void)[] = []

  /** Registers what undoes the thing just done. */
  add(step: () => void): void {
    this.#steps.push(step)
  }

  /** Registers the close of an object just made, and returns it. */
  own<T extends { close(): void }>(object: T): T {
    this.add(() => object.close())
    return object
  }

  /**
   * Runs all steps, newest first, and forgets them.
   * @throws the step's error where one failed, an AggregateError of all of them where several did.
   */
  run(): void {
    const errors: unknown[] = []
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        step()
      } catch (error) {
        errors.push(error)
      }
    }
    throwAll(errors)
  }

  /** Runs all steps because `error` happened, and returns what is to be thrown. */
  unwind(error: unknown): unknown {
    try {
      this.run()
      return error
    } catch (further) {
      return new AggregateError([error, further], `${String(error)} (and undoing what preceded it failed too)`)
    }
  }
}

/** The same with steps that may take time, each awaited before the next. */
export class AsyncTeardown {
  readonly #steps: (() => void | Promise<void>)[] = []

  /** Registers what undoes the thing just done. */
  add(step: () => void | Promise<void>): void {
    this.#steps.push(step)
  }

  /** Registers the close of an object just made, and returns it. */
  own<T extends { close(): void }>(object: T): T {
    this.add(() => object.close())
    return object
  }

  /** Runs all steps, newest first, and forgets them. Rejects as {@link Teardown.run} throws. */
  async run(): Promise<void> {
    const errors: unknown[] = []
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step()
      } catch (error) {
        errors.push(error)
      }
    }
    throwAll(errors)
  }
}

function throwAll(failures: readonly unknown[]): void {
  // A step may be a stack of its own.
  const errors = failures.flatMap((error) => (error instanceof AggregateError ? error.errors : [error]))
  if (errors.length === 1) throw errors[0]
  if (errors.length > 1) throw new AggregateError(errors, `${errors.length} steps of closing failed`)
}

/**
 * Does a step for each of them; where one fails, those before it are undone.
 * @param step is given where it registers what undoes it.
 * @throws the step's error
 */
export function forAllOrNone<T>(things: Iterable<T>, step: (thing: T, undo: Teardown) => void): void {
  const undo = new Teardown()
  try {
    for (const thing of things) step(thing, undo)
  } catch (error) {
    throw undo.unwind(error)
  }
}
