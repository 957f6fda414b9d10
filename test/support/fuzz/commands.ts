// Commands for the control queue, right and wrong, each with the answer that it must get.

import { VIRTIO_NET_F } from '../../../lib/abi/virtio-net.ts'
import { featureSet, hasFeature } from '../../../lib/virtio/index.ts'
import { QUEUE_PAIRS } from './fuzz-nic.ts'
import type { Random } from './random.ts'

const F = VIRTIO_NET_F

export interface Command {
  name: string
  bytes: readonly number[]
  /** VIRTIO_NET_OK or VIRTIO_NET_ERR. */
  answer: 0 | 1
  /** How many pairs the guest then has, where it is answered OK. */
  pairs?: number
}

/** Guest offloads whose bit in the command is that of the feature. */
const OFFLOADS = featureSet(
  F.VIRTIO_NET_F_GUEST_CSUM,
  F.VIRTIO_NET_F_GUEST_TSO4,
  F.VIRTIO_NET_F_GUEST_TSO6,
  F.VIRTIO_NET_F_GUEST_ECN,
  F.VIRTIO_NET_F_GUEST_USO4,
  F.VIRTIO_NET_F_GUEST_USO6,
)

const le = (value: bigint | number, width: number): number[] =>
  Array.from({ length: width }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn))

const mac = (random: Random, first: number): number[] => [first, ...le(random.word(), 4), random.below(256)]

interface Kind {
  /** Without it the command is unknown. */
  feature: number
  right: (random: Random, accepted: bigint) => Omit<Command, 'name' | 'answer'>
  wrong: (random: Random, accepted: bigint) => readonly number[]
}

const rxMode = (command: number): Kind => ({
  feature: F.VIRTIO_NET_F_CTRL_RX,
  right: (random) => ({ bytes: [0, command, random.below(2)] }),
  wrong: (random) =>
    random.pick([
      [0, command, random.between(2, 255)],
      [0, command],
      [0, command, 1, 0],
    ]),
})

const tables = (unicast: readonly number[][], multicast: readonly number[][]): number[] => [
  ...[1, 0],
  ...[...le(unicast.length, 4), ...unicast.flat()],
  ...[...le(multicast.length, 4), ...multicast.flat()],
]

const KINDS = {
  RX_PROMISC: rxMode(0),
  RX_ALLMULTI: rxMode(1),
  MAC_TABLE_SET: {
    feature: F.VIRTIO_NET_F_CTRL_RX,
    right: (random) => {
      const list = (first: number) => Array.from({ length: random.below(8) }, () => mac(random, first))
      return { bytes: tables(list(0x52), list(0x33)) }
    },
    wrong: (random) => {
      const good = tables([mac(random, 0x52)], [mac(random, 0x33)])
      return random.pick([
        good.slice(0, random.between(2, good.length - 1)),
        [...good, 0],
        [1, 0, ...le(random.word() | 0x100, 4), ...good.slice(6)],
      ])
    },
  },
  MAC_ADDR_SET: {
    feature: F.VIRTIO_NET_F_CTRL_MAC_ADDR,
    right: (random) => ({ bytes: [1, 1, ...mac(random, 0x52)] }),
    wrong: (random) =>
      random.pick([
        [1, 1, ...mac(random, 0x53)],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 2, 3],
        [1, 1, ...mac(random, 2), 0],
      ]),
  },
  ANNOUNCE_ACK: {
    feature: F.VIRTIO_NET_F_GUEST_ANNOUNCE,
    right: () => ({ bytes: [3, 0] }),
    wrong: (random) => [3, 0, random.below(256)],
  },
  MQ_VQ_PAIRS_SET: {
    feature: F.VIRTIO_NET_F_MQ,
    right: (random) => {
      const pairs = random.between(1, QUEUE_PAIRS)
      return { bytes: [4, 0, pairs, 0], pairs }
    },
    wrong: (random) =>
      random.pick([
        [4, 0, 0, 0],
        [4, 0, ...le(random.between(QUEUE_PAIRS + 1, 0xffff), 2)],
        [4, 0, 1],
        [4, 0, 1, 0, 0],
      ]),
  },
  GUEST_OFFLOADS_SET: {
    feature: F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    right: (random, accepted) => ({ bytes: [5, 0, ...le(random.pick([0n, accepted & OFFLOADS]), 8)] }),
    wrong: (random, accepted) => {
      const none = random.pick([1n, 1n << 63n, featureSet(F.VIRTIO_NET_F_GUEST_UFO), 2n ** 64n - 1n])
      return random.pick([
        [5, 0, ...le(none | (accepted & OFFLOADS), 8)],
        [5, 0, 0],
        [5, 0, ...le(0, 9)],
      ])
    },
  },
} as const satisfies Record<string, Kind>

export type CommandName = keyof typeof KINDS
export const COMMANDS = Object.keys(KINDS) as CommandName[]

/** One of a kind, or of none. @param accepted the features that were agreed on */
export function drawCommand(random: Random, accepted: bigint): Command {
  const name = random.pick([...COMMANDS, 'none'] as const)
  if (name === 'none') {
    const bytes = random.pick([
      [],
      [random.below(256)],
      [random.between(6, 255), 0],
      [2, 0, 1, 0],
      [0, 2, 1],
      [4, 1, 1, 0],
    ])
    return { name: 'unknown', bytes, answer: 1 }
  }
  const kind: Kind = KINDS[name]
  if (!hasFeature(accepted, kind.feature)) return { name, bytes: kind.right(random, accepted).bytes, answer: 1 }
  if (random.percent(35)) return { name, bytes: kind.wrong(random, accepted), answer: 1 }
  return { name, answer: 0, ...kind.right(random, accepted) }
}
