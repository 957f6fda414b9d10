// What device and driver agreed on, in words. Pure.

import type { FeatureExplanation } from '../../lib/index.ts'

/** What a bit is good for. Those of one purpose are told together. */
const PURPOSES: readonly (readonly [purpose: string, names: readonly string[]])[] = [
  [
    'rings',
    ['VERSION_1', 'EVENT_IDX', 'INDIRECT_DESC', 'RING_RESET', 'MRG_RXBUF', 'IN_ORDER', 'NOTIFY_ON_EMPTY', 'ANY_LAYOUT'],
  ],
  ['queue pairs', ['MQ', 'CTRL_VQ']],
  ['checksums', ['CSUM', 'GUEST_CSUM', 'CTRL_GUEST_OFFLOADS']],
  [
    'guest sends large',
    [
      'GSO',
      'HOST_TSO4',
      'HOST_TSO6',
      'HOST_ECN',
      'HOST_UFO',
      'HOST_USO',
      'HOST_UDP_TUNNEL_GSO',
      'HOST_UDP_TUNNEL_GSO_CSUM',
    ],
  ],
  [
    'guest takes large',
    [
      'GUEST_TSO4',
      'GUEST_TSO6',
      'GUEST_ECN',
      'GUEST_UFO',
      'GUEST_USO4',
      'GUEST_USO6',
      'GUEST_UDP_TUNNEL_GSO',
      'GUEST_UDP_TUNNEL_GSO_CSUM',
      'GUEST_HDRLEN',
    ],
  ],
  ['address, filter', ['MAC', 'CTRL_MAC_ADDR', 'CTRL_RX', 'CTRL_RX_EXTRA', 'CTRL_VLAN']],
  ['link', ['STATUS', 'MTU', 'SPEED_DUPLEX', 'GUEST_ANNOUNCE', 'STANDBY']],
]
const OTHER = 'more'

export const shortName = (name: string): string => name.replace(/^VIRTIO_(NET_|RING_)?F_/, '')

/** Items behind a head, in lines of at most 100 columns. */
export function paragraph(head: string, items: readonly string[], separator = ' '): string[] {
  const indent = ' '.repeat(head.length)
  const lines: string[] = []
  for (const [i, item] of items.entries()) {
    const text = i + 1 < items.length ? `${item}${separator.trimEnd()}` : item
    const last = lines.at(-1)
    if (last === undefined) lines.push(`${head}${text}`)
    else if (last.length + 1 + text.length > 100) lines.push(`${indent}${text}`)
    else lines[lines.length - 1] = `${last} ${text}`
  }
  return lines
}

/** Names by what is said of them, in the order in which that is first said. */
function grouped(entries: readonly (readonly [key: string, name: string])[]): Map<string, string[]> {
  const groups = new Map<string, string[]>()
  for (const [key, name] of entries) groups.set(key, [...(groups.get(key) ?? []), name])
  return groups
}

const WIDTH = 21

function agreed(features: readonly FeatureExplanation[]): string[] {
  const names = features.filter(({ accepted }) => accepted).map(({ name }) => shortName(name))
  const purposeOf = (name: string) => PURPOSES.find(([, known]) => known.includes(name))?.[0] ?? OTHER
  const groups = grouped(names.map((name) => [purposeOf(name), name]))
  return [...PURPOSES.map(([purpose]) => purpose), OTHER].flatMap((purpose) =>
    paragraph(`  ${purpose.padEnd(WIDTH)}`, groups.get(purpose) ?? []),
  )
}

/** Lines of at most 100 columns: what was agreed on, what the driver left, and what was not offered and why. */
export function featureLines(features: readonly FeatureExplanation[]): string[] {
  const declined = features.filter(({ accepted, offeredBy }) => !accepted && offeredBy !== null)
  // Bits that the device does not know interest nobody here.
  const refused = features.filter(({ refused }) => refused !== null && refused.why !== 'the device does not have it')
  const reasons = grouped(refused.map(({ name, refused }) => [refused!.why, shortName(name)]))
  return [
    'agreed on',
    ...agreed(features),
    ...paragraph(
      `  ${'offered, not taken'.padEnd(WIDTH)}`,
      declined.map(({ name }) => shortName(name)),
    ),
    'not offered',
    ...[...reasons].flatMap(([why, names]) =>
      paragraph('  ', [...names.slice(0, -1), `${names.at(-1)}:`, ...why.split(' ')]),
    ),
  ]
}
