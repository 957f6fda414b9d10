// A plan carried out: its steps in their order, and what they changed taken back in the reverse.

import { PlugError, type PlugOutcome } from '../errors.ts'
import type { Step, Undo } from './step.ts'

/** What a plan has changed. */
export class Applied {
  readonly #changes: { text: string; undo: Undo }[] = []

  /**
   * Carries out the steps; where one fails, or `signal` aborts, those before it are taken back.
   * @throws {PlugError} with what became of them
   */
  static async of(steps: readonly Step[], signal?: AbortSignal): Promise<Applied> {
    const applied = new Applied()
    for (const step of steps) {
      try {
        signal?.throwIfAborted()
        const undo = await step.apply()
        if (undo !== undefined) applied.#changes.push({ text: step.text, undo })
      } catch (error) {
        throw new PlugError(step.text, error, await applied.undo())
      }
    }
    return applied
  }

  /** What was changed, and was not taken back since: texts of steps. What had been so before is not among them. */
  get changes(): string[] {
    return this.#changes.map(({ text }) => text)
  }

  /** Takes back what was changed, the newest first, each of it whatever fails. Once; later there is nothing left. */
  async undo(): Promise<PlugOutcome> {
    const undone: string[] = []
    const notUndone: { text: string; error: unknown }[] = []
    for (let change = this.#changes.pop(); change !== undefined; change = this.#changes.pop()) {
      const { text, undo } = change
      try {
        await undo()
        undone.push(text)
      } catch (error) {
        notUndone.push({ text, error })
      }
    }
    return { undone, notUndone }
  }
}
