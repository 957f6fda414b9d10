// A NIC that is plugged in: what that took, what it is now, and how it is taken out again.

import { PlugError } from '../errors.ts'
import { type Link, RtNetlink } from '../host/rtnetlink.ts'
import type { Applied } from './apply.ts'
import type { Step } from './step.ts'

/** JSON-safe. */
export interface PluggedState {
  ifname: string
  state: 'plugged' | 'unplugged'
  /** Each step of the plan; whether it changed something, and that is still so: what was so before stays. */
  steps: { text: string; changed: boolean }[]
  /** What the kernel has of that name now; null where there is nothing. */
  link: Pick<Link, 'index' | 'up' | 'lowerUp' | 'mtu' | 'mac' | 'master'> | null
}

/** Returned by {@link plug}. */
export class Plugged {
  readonly ifname: string
  readonly #plan: readonly string[]
  readonly #applied: Applied
  #unplugged: Promise<void> | undefined

  /** @internal */
  constructor(ifname: string, plan: readonly Step[], applied: Applied) {
    this.ifname = ifname
    this.#plan = plan.map(({ text }) => text)
    this.#applied = applied
  }

  /** What it is now. @throws {SystemCallError} what rtnetlink says */
  inspect(): PluggedState {
    const changes = this.#applied.changes
    return {
      ifname: this.ifname,
      state: this.#unplugged === undefined ? 'plugged' : 'unplugged',
      steps: this.#plan.map((text) => ({ text, changed: changes.includes(text) })),
      link: linkNow(this.ifname),
    }
  }

  /**
   * Takes back what plugging changed, the newest first; what was so before stays. Each step is taken back whatever becomes of
   * the others. Idempotent: later calls wait for the first, and share its outcome.
   * @throws {PlugError} with what could not be taken back
   */
  unplug(): Promise<void> {
    this.#unplugged ??= this.#unplug()
    return this.#unplugged
  }

  async #unplug(): Promise<void> {
    const { undone, notUndone } = await this.#applied.undo()
    const [first, ...further] = notUndone
    if (first === undefined) return
    throw new PlugError(`undoing: ${first.text}`, first.error, { undone, notUndone: further })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unplug()
  }
}

function linkNow(ifname: string): PluggedState['link'] {
  const netlink = RtNetlink.open()
  try {
    const link = netlink.getLink({ ifname })
    if (link === undefined) return null
    const { index, up, lowerUp, mtu, mac, master } = link
    return {
      index,
      up,
      lowerUp,
      mtu,
      ...(mac === undefined ? {} : { mac }),
      ...(master === undefined ? {} : { master }),
    }
  } finally {
    netlink.close()
  }
}
