// How often each interrupt of a guest came, and to which of its processors.

import type { StockGuest } from './stock-guest.ts'

/** By name, `'virtio0-input.2'` say: the number, and a count for each processor. */
export type GuestInterrupts = ReadonlyMap<string, { irq: number; counts: number[] }>

/** Those whose name begins so, as /proc/interrupts has them. */
export async function guestInterrupts(guest: StockGuest, prefix: string): Promise<GuestInterrupts> {
  const [head = '', ...lines] = (await guest.run('cat /proc/interrupts')).split('\n')
  const processors = head.trim().split(/\s+/).length
  const found = lines.map((line) => line.trim().split(/\s+/)).filter((words) => words.at(-1)?.startsWith(prefix))
  return new Map(
    found.map(([irq = '', ...words]) => [
      words.at(-1) as string,
      { irq: Number.parseInt(irq, 10), counts: words.slice(0, processors).map(Number) },
    ]),
  )
}

/** What came since. */
export function since(before: GuestInterrupts, after: GuestInterrupts): GuestInterrupts {
  return new Map(
    [...after].map(([name, { irq, counts }]) => [
      name,
      { irq, counts: counts.map((count, i) => count - (before.get(name)?.counts[i] ?? 0)) },
    ]),
  )
}
