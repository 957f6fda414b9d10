// One change that plugging makes, and how it is taken back.

/** Takes a change back. Called once, after the steps behind it were taken back. */
export type Undo = () => Promise<void>

/** A change to the host's network. A plan is an array of them, in order. */
export interface Step {
  /** What it does, in the imperative, as the plan prints it: `add port 'vnet0' to bridge 'br-int'`. */
  readonly text: string
  /**
   * Makes the change where it is not there yet; resolves to what takes it back, or undefined where nothing was changed.
   * Rejects with everything of this step as it was.
   */
  apply(): Promise<Undo | undefined>
}
