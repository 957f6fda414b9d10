// A level-triggered interrupt line, as PCI's INTx is.

/**
 * A line that a device holds for as long as it has something to tell: a pin of an interrupt controller. Several devices
 * may share one, each with a pin object of its own, that is held while any of them holds it.
 */
export interface InterruptPin {
  /** Called at each change. */
  set(asserted: boolean): void
}
