// Colours where a terminal shows them.

import { styleText } from 'node:util'

export interface Paint {
  good(text: string): string
  bad(text: string): string
  strong(text: string): string
}

const plain = (text: string): string => text

/** `hasColors` also knows NO_COLOR and TERM=dumb. */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  if (!stream.isTTY || !stream.hasColors()) return { good: plain, bad: plain, strong: plain }
  return {
    good: (text) => styleText('green', text),
    bad: (text) => styleText(['red', 'bold'], text),
    strong: (text) => styleText('bold', text),
  }
}
