// How often each interrupt of a guest came, and to which of its processors.

/** Of a message's number in /proc/interrupts, what is its place in the device's table; before 6.2 the device is in it, too. */
const VECTOR_MASK = 0x7ff

export interface GuestInterrupt {
  irq: number
  /** Of MSI-X; undefined where it is no message. */
  vector: number | undefined
  /** How often it came to each processor. */
  counts: number[]
}

/** By name, `'virtio0-input.2'` say. */
export type GuestInterrupts = ReadonlyMap<string, GuestInterrupt>

function interruptOf(words: readonly string[], processors: number): GuestInterrupt {
  const message = words.map((word) => /^(\d+)-edge$/.exec(word)?.[1]).find((number) => number !== undefined)
  const isMessage = words.some((word) => word.startsWith('PCI-MSI'))
  return {
    irq: Number.parseInt(words[0] as string, 10),
    vector: isMessage && message !== undefined ? Number(message) & VECTOR_MASK : undefined,
    counts: words.slice(1, 1 + processors).map(Number),
  }
}

/** Those whose name begins so, of what /proc/interrupts says. */
export function parseInterrupts(text: string, prefix: string): GuestInterrupts {
  const [head = '', ...lines] = text.split('\n')
  const processors = head.trim().split(/\s+/).length
  const found = lines.map((line) => line.trim().split(/\s+/)).filter((words) => words.at(-1)?.startsWith(prefix))
  return new Map(found.map((words) => [words.at(-1) as string, interruptOf(words, processors)]))
}

/** Those of a guest whose name begins so. */
export async function guestInterrupts(
  guest: { run(command: string): Promise<string> },
  prefix: string,
): Promise<GuestInterrupts> {
  return parseInterrupts(await guest.run('cat /proc/interrupts'), prefix)
}

/** What came since. */
export function since(before: GuestInterrupts, after: GuestInterrupts): GuestInterrupts {
  return new Map(
    [...after].map(([name, { counts, ...interrupt }]) => [
      name,
      { ...interrupt, counts: counts.map((count, i) => count - (before.get(name)?.counts[i] ?? 0)) },
    ]),
  )
}
