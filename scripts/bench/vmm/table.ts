// The result of `npm run bench -- vmm` for people: at most 100 columns.

import { align } from '../align.ts'
import { CONTENDERS, type Contender, TITLES } from './contenders.ts'
import { bareNodePss, type Group, type Line, MODE_TITLES } from './figures.ts'
import type { Verdict } from './goals.ts'
import type { VmmBench } from './inside.ts'
import type { Ratio } from './pace.ts'
import type { Mode } from './traffic.ts'

const WIDTH = 100
const INDENT = '    '

/** Three digits that count, and none of a fraction where there are as many before it. */
export function figure(value: number): string {
  if (value === 0) return '0'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3)
}

const ratio = ({ value, low, high }: Ratio): string => `${value.toFixed(2)} [${low.toFixed(2)} ${high.toFixed(2)}]`

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

/** Into lines with room for `more`; `text` is cut behind each match of `parts`. */
function wrapped(text: string, parts: RegExp, more: number): string[] {
  const lines = ['']
  for (const [part] of text.matchAll(parts)) {
    const line = lines.at(-1) as string
    if (line !== '' && line.length + part.trimEnd().length + more > WIDTH) lines.push(part)
    else lines[lines.length - 1] += part
  }
  return lines.map((line) => line.trimEnd())
}

const prose = (text: string): string[] => wrapped(text, /\S+\s*/g, 0)

/** To be typed: cut at blanks, within double quotes too, and behind commas where a word is longer than a line. */
function typed(command: string): string[] {
  const lines = wrapped(command, /[^ ,]+[ ,]*/g, INDENT.length + 2)
  const amidWord = (line: string | undefined): boolean => line?.endsWith(',') ?? false
  return lines.map((line, i) => {
    const indent = i === 0 ? '  ' : amidWord(lines[i - 1]) ? '' : INDENT
    const more = i === lines.length - 1 ? '' : amidWord(line) ? '\\' : ' \\'
    return indent + line + more
  })
}

/** Where guests found other NICs than the first one's: that must be known to judge the rest. */
export function differences({ boots }: VmmBench): string[] {
  const first = boots[0]?.booted
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

function standing({ gate, reached, shown }: Verdict): string {
  if (reached) return 'ok'
  if (!shown) return 'unclear'
  return gate ? 'FAILED' : 'missed'
}

function judgement(verdicts: readonly Verdict[]): string[] {
  return align(
    verdicts.map((each) => [
      standing(each),
      each.what,
      figure(each.value),
      `${each.kind} ${each.limit}`,
      each.gate ? 'gates' : '',
    ]),
    [0, 1, 3],
  )
}

export function tableOfVmm(bench: VmmBench, lines: readonly Line[], verdicts: readonly Verdict[]): string {
  const { host, node, qemu, settings, commands, boots, traffic, failures } = bench
  const contenders = CONTENDERS.filter((each) => commands[each] !== undefined)
  const short: Readonly<Record<Contender, string>> = { ours: 'ours', pc: 'pc', microvm: 'microvm', 'user-space': 'off' }
  const head = ['', ...contenders.map((each) => short[each]), 'ours / pc [95 %]', '/ microvm']
  const confidence = lines.flatMap(({ group, ratios }) =>
    group === 'rate' && ratios.pc ? ratios.pc.confidence : [],
  )[0]
  const known = confidence === undefined ? '' : `, at ${(100 * confidence).toFixed(1)} %`
  const processors = `${settings.smp} processor${settings.smp === 1 ? '' : 's'}`
  return [
    ...prose(
      `Guests with Linux ${settings.kernel} (${settings.image}), ${processors} and ${settings.memory} MiB, on Linux ${host} ` +
        `in QEMU that emulates its CPU: ratios mean something, absolute figures do not. QEMU ${qemu}, Node.js ${node}. ` +
        `Medians of ${boots.length} boots, and of ${traffic.length} rounds of traffic; ratios are medians of the rounds', ` +
        `in their interval by order statistics${known}; of what a packet costs they are taken at the same pace ` +
        `(covariance), in an interval of resampled rounds. ` +
        `ours: ${TITLES.ours}; pc and microvm: QEMU with vhost=on; off: QEMU pc with vhost=off.`,
    ),
    '',
    ...align([head, ...rows(bench, lines, contenders)], [0]),
    '',
    ...judgement(verdicts),
    ...differences(bench).map((line) => `note: ${line}`),
    ...failures.map(({ round, contender, message }) =>
      `note: boot ${round}, ${TITLES[contender]} failed: ${message.split('\n', 1)[0]}`.slice(0, WIDTH),
    ),
    '',
    ...contenders.flatMap((each) => [`${TITLES[each]}:`, ...typed(commands[each] as string)]),
    '',
  ].join('\n')
}
