// What `npm run compare` tells: a table for each set of options, the reasons, and what is not in order; 100 columns.

import { wrap } from '../wrap.ts'
import type { ComparedSet, Comparison, Row, Sides } from './compare.ts'
import { qemuOptions } from './qemu-words.ts'

const WIDTH = 100
/** Of a bit's number and its name. */
const NAMES_WIDTH = 47

const cells = ({ ours, qemu }: Sides): string => `${ours ? 'yes' : ' - '}   ${qemu ? 'yes' : ' - '} `

/** The first line with one indent, the others with another. */
function paragraph(text: string, first: string, others: string): string[] {
  const lines = wrap(text.split(' '), WIDTH - others.length)
  return lines.map((line, i) => `${i === 0 ? first : others}${line}`)
}

function heading({ name, options, driven }: ComparedSet): string[] {
  const { tap, device } = qemuOptions(options)
  const words = [tap, ...device.split(',')].filter(Boolean)
  const refused = Object.entries({ our: driven.ours, "QEMU's": driven.qemu }).filter(([, taken]) => !taken)
  return [
    ...paragraph(words.length === 0 ? `${name}: no options` : `${name}: ${words.join(' ')}`, '', '    '),
    ...refused.map(([whose]) => `    The guest's driver refuses ${whose} device.`),
  ]
}

function table(set: ComparedSet, all: boolean, numbers: ReadonlyMap<string, number>): string[] {
  const line = ({ bit, name, offered, accepted, alike, why }: Row): string => {
    const reason = alike ? '' : why === null ? 'none' : String(numbers.get(why))
    const names = `  ${String(bit).padStart(3)}  ${name}`.padEnd(NAMES_WIDTH)
    return `${names}${cells(offered)}   ${cells(accepted)}  ${reason}`.trimEnd()
  }
  const differing = set.rows.filter(({ alike }) => !alike).length
  return [
    ...heading(set),
    `${'  bit'.padEnd(NAMES_WIDTH)}  offered       accepted    reason`,
    `${''.padEnd(NAMES_WIDTH)}ours  QEMU    ours  QEMU`,
    ...set.rows.filter(({ alike }) => all || !alike).map(line),
    `  ${set.rows.length - differing} bits agree, ${differing} differ.`,
    '',
  ]
}

/** @param all with the bits that agree */
export function compareTable(comparison: Comparison, all: boolean): string[] {
  const { host, guest, qemu, sets, disagreements, unexplained, stale } = comparison
  const whys = new Set(sets.flatMap(({ rows }) => rows.flatMap(({ why }) => (why === null ? [] : [why]))))
  const numbers = new Map([...whys].map((why, i) => [why, i + 1]))
  return [
    ...paragraph(
      `A NIC of this package, and virtio-net-device of QEMU ${qemu} with vhost=on, given the same options: what each ` +
        `offers, and what a guest with Linux ${guest} accepts. The host has Linux ${host}.`,
      '',
      '',
    ),
    '',
    ...sets.flatMap((set) => table(set, all, numbers)),
    ...[...numbers].flatMap(([why, number]) => paragraph(why, `${String(number).padStart(3)}  `, '     ')),
    '',
    ...[...disagreements, ...unexplained, ...stale].flatMap((problem) => paragraph(problem, 'WRONG  ', '       ')),
    ...(isInOrder(comparison) ? ['Every difference has its reason, every reason its difference.'] : []),
  ]
}

export const isInOrder = ({ disagreements, unexplained, stale }: Comparison): boolean =>
  disagreements.length + unexplained.length + stale.length === 0
