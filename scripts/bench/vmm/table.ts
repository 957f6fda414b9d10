// The result of `npm run bench -- vmm` for people: at most 100 columns.

import { align } from '../align.ts'
import { CONTENDERS, type Contender, TITLES } from './contenders.ts'
import { bareNodePss, type Group, type Line, MODE_TITLES, type Ratio } from './figures.ts'
import type { Verdict } from './goals.ts'
import type { VmmBench } from './inside.ts'
import type { Mode } from './traffic.ts'

const WIDTH = 100
const INDENT = '    '

/** Three digits that count, and none of a fraction where there are as many before it. */
export function figure(value: number): string {
  if (value === 0) return '0'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3)
}

const ratio = ({ median, low, high }: Ratio): string => `${median.toFixed(2)} [${low.toFixed(2)} ${high.toFixed(2)}]`

const GROUPS: readonly { group: Group; heading: string }[] = [
  { group: 'stage', heading: "since the process's start" },
  { group: 'rate', heading: 'traffic' },
  { group: 'count', heading: 'of a packet' },
  { group: 'memory', heading: 'memory' },
]

/** A heading before the lines of each group, of counts one for each kind of traffic. */
function headingOf({ group, id }: Line): string {
  const { heading } = GROUPS.find((each) => each.group === group)!
  return group === 'count' ? `${heading}: ${MODE_TITLES[id.split(' ')[0] as Mode]}` : heading
}

function rows(bench: VmmBench, lines: readonly Line[], contenders: readonly Contender[]): string[][] {
  const cells = (values: Line['values']) =>
    contenders.map((each) => (values[each] === undefined ? '' : figure(values[each])))
  let heading = ''
  return lines.flatMap((line) => {
    const above = headingOf(line)
    const first = above === heading ? [] : [[above, ...contenders.map(() => ''), '', '']]
    heading = above
    const { pc, microvm } = line.ratios
    const ratios = [pc, line.group === 'stage' ? microvm : undefined]
    const row = [`  ${line.title}`, ...cells(line.values), ...ratios.map((each) => (each ? ratio(each) : ''))]
    const bare = line.id === 'pss' ? [['  bare Node.js, MiB', figure(bareNodePss(bench))]] : []
    return [...first, row, ...bare]
  })
}

/** At blanks, and behind commas where a word is longer than a line. */
function wrapped(command: string): string[] {
  const lines = ['']
  for (const [part] of command.matchAll(/[^ ,]+[ ,]*/g)) {
    const line = lines.at(-1) as string
    if (line !== '' && line.length + part.trimEnd().length + INDENT.length + 4 > WIDTH) lines.push(part)
    else lines[lines.length - 1] += part
  }
  return lines.map((line, i) => `${i === 0 ? '  ' : INDENT}${line.trimEnd()}${i < lines.length - 1 ? ' \\' : ''}`)
}

/** Where guests found other NICs than the first one's: that must be known to judge the rest. */
export function differences({ rounds }: VmmBench): string[] {
  const first = rounds[0]?.measured
  return CONTENDERS.flatMap((contender) => {
    const [ours, theirs] = [first?.ours?.facts, first?.[contender]?.facts]
    if (ours === undefined || theirs === undefined) return []
    const bits = [...ours.features].flatMap((bit, i) => (bit === theirs.features[i] ? [] : [i]))
    const which = bits.map((bit) => `${ours.features[bit] === '1' ? '-' : '+'}${bit}`).join(' ')
    return [
      ...(bits.length === 0 ? [] : [`${TITLES[contender]}: feature bits beside ours: ${which}`]),
      ...(ours.rings === theirs.rings ? [] : [`${TITLES[contender]}: rings of ${theirs.rings}, ours of ${ours.rings}`]),
      ...(ours.vectors === theirs.vectors
        ? []
        : [`${TITLES[contender]}: ${theirs.vectors} vectors, ours ${ours.vectors}`]),
    ]
  })
}

function judgement(verdicts: readonly Verdict[]): string[] {
  const said = ({ gate, reached }: Verdict): string => (reached ? 'ok' : gate ? 'FAILED' : 'missed')
  return align(
    verdicts.map((each) => [said(each), each.what, figure(each.value), `${each.kind} ${each.limit}`]),
    [0, 1, 3],
  )
}

export function tableOfVmm(bench: VmmBench, lines: readonly Line[], verdicts: readonly Verdict[]): string {
  const { host, node, qemu, settings, commands, rounds, failures } = bench
  const contenders = CONTENDERS.filter((each) => commands[each] !== undefined)
  const short: Readonly<Record<Contender, string>> = { ours: 'ours', pc: 'pc', microvm: 'microvm', 'user-space': 'off' }
  const head = ['', ...contenders.map((each) => short[each]), 'ours / pc [95 %]', '/ microvm']
  const confidence = lines.flatMap(({ ratios }) => (ratios.pc === undefined ? [] : [ratios.pc.confidence]))[0]
  const known = confidence === undefined ? '' : `, at ${(100 * confidence).toFixed(1)} %`
  return [
    `Guests with Linux ${settings.kernel} (${settings.image}), ${settings.smp} processor${settings.smp === 1 ? '' : 's'}, on Linux ${host} in QEMU that emulates its CPU:`,
    `ratios mean something, absolute figures do not. QEMU ${qemu}, Node.js ${node}. Medians of ${rounds.length} rounds;`,
    `ratios by rounds, with the interval of their median by order statistics${known}.`,
    `ours: ${TITLES.ours}; pc and microvm: QEMU with vhost=on; off: QEMU pc with vhost=off.`,
    '',
    ...align([head, ...rows(bench, lines, contenders)], [0]),
    '',
    ...judgement(verdicts),
    ...differences(bench).map((line) => `note: ${line}`),
    ...failures.map(({ round, contender, message }) =>
      `note: round ${round}, ${TITLES[contender]} failed: ${message.split('\n', 1)[0]}`.slice(0, WIDTH),
    ),
    '',
    ...contenders.flatMap((each) => [`${TITLES[each]}:`, ...wrapped(commands[each] as string)]),
    '',
  ].join('\n')
}
