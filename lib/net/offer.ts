// Which feature bits a device offers: those asked for that somebody serves, with what they need; and why not the others.

import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_F_NEEDS } from '../abi/virtio-net.ts'
import type { NetBackend } from '../backend/net-backend.ts'
import { FeatureNegotiationError } from '../errors.ts'
import {
  consistentFeatures,
  type FeatureRule,
  featureNames,
  featureSet,
  hasFeature,
  unmetFeatures,
} from '../virtio/index.ts'
import { ALWAYS, isOptional } from './options.ts'

const F = VIRTIO_NET_F

/** What the specification forgot, and a driver may accept all the same: useless without what it needs. */
const OFFER_RULES: readonly FeatureRule[] = [
  ...VIRTIO_NET_F_NEEDS,
  { feature: F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, needs: [[F.VIRTIO_NET_F_CTRL_VQ]] },
  { feature: F.VIRTIO_NET_F_GUEST_ANNOUNCE, needs: [[F.VIRTIO_NET_F_STATUS]] },
]

/** What the device serves by itself, whatever the backend. */
const OWN = featureSet(
  F.VIRTIO_NET_F_MAC,
  F.VIRTIO_NET_F_MTU,
  F.VIRTIO_NET_F_STATUS,
  F.VIRTIO_NET_F_SPEED_DUPLEX,
  F.VIRTIO_NET_F_CTRL_VQ,
  F.VIRTIO_NET_F_CTRL_RX,
  F.VIRTIO_NET_F_CTRL_MAC_ADDR,
  F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  F.VIRTIO_NET_F_GUEST_ANNOUNCE,
  F.VIRTIO_NET_F_MQ,
  VIRTIO_F.VIRTIO_F_RING_RESET,
)

/** Why the device offers a bit never. */
const NEVER: ReadonlyMap<number, string> = new Map<number, string>([
  [VIRTIO_F.VIRTIO_F_RING_PACKED, 'rings are split: vhost-net knows no others'],
  [VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM, 'addresses in rings are guest-physical'],
  [F.VIRTIO_NET_F_CTRL_VLAN, 'no backend filters frames by their VLAN'],
  [F.VIRTIO_NET_F_CTRL_RX_EXTRA, 'no backend filters frames by these modes'],
  [F.VIRTIO_NET_F_RSS, 'no backend has hashes of frames'],
  [F.VIRTIO_NET_F_HASH_REPORT, 'no backend has hashes of frames'],
  [F.VIRTIO_NET_F_NOTF_COAL, 'interrupts go from backend to guest without the device'],
  [F.VIRTIO_NET_F_VQ_NOTF_COAL, 'interrupts go from backend to guest without the device'],
])

/** Who does not offer a bit, and why. */
export interface Refusal {
  /** `rules`: something that it needs is not offered. */
  by: 'options' | 'device' | 'backend' | 'rules' | 'transport'
  why: string
}

/** Everything there is to know about a feature bit; JSON-safe. */
export interface FeatureExplanation {
  bit: number
  /** `'VIRTIO_NET_F_MQ'` */
  name: string
  /** Who offers it; null where nobody does. */
  offeredBy: 'device' | 'backend' | null
  /** Who does not, and why; null where it is offered. */
  refused: Refusal | null
  /** Whether the driver accepted it. */
  accepted: boolean
}

export interface Offer {
  features: bigint
  /** By bit number. */
  refusals: ReadonlyMap<number, Refusal>
}

const known = [...Object.values({ ...F, ...VIRTIO_F })].sort((a, b) => a - b)

/**
 * What to offer of what is asked for.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` where the backend lacks what every device offers
 */
export function makeOffer(requested: bigint, backend: Pick<NetBackend, 'features' | 'explain'>): Offer {
  const refusals = new Map<number, Refusal>()
  for (const bit of known) {
    const refusal = refusalOf(bit, requested, backend)
    if (refusal !== undefined) refusals.set(bit, refusal)
  }
  const served = featureSet(...known.filter((bit) => !refusals.has(bit)))
  const missing = ALWAYS & ~served
  if (missing !== 0n) {
    const names = featureNames(missing, F).join(', ')
    throw new FeatureNegotiationError('ERR_FEATURE_MISSING', `the backend does not serve ${names}`)
  }
  const features = consistentFeatures(served, OFFER_RULES)
  for (const bit of known.filter((bit) => hasFeature(served & ~features, bit))) {
    refusals.set(bit, { by: 'rules', why: whatLacks(bit, features) })
  }
  return { features, refusals }
}

function refusalOf(bit: number, requested: bigint, backend: Pick<NetBackend, 'features' | 'explain'>) {
  if (!isOptional(bit)) return { by: 'device', why: NEVER.get(bit) ?? 'the device does not have it' } as const
  if (!hasFeature(requested, bit)) return { by: 'options', why: 'it was not asked for' } as const
  if (hasFeature(OWN | backend.features, bit)) return undefined
  return { by: 'backend', why: backend.explain(bit) ?? 'the backend does not serve it' } as const
}

function whatLacks(bit: number, features: bigint): string {
  const rules = OFFER_RULES.filter(({ feature }) => feature === bit)
  const lacking = rules.flatMap(({ needs }) => needs).filter((any) => !any.some((need) => hasFeature(features, need)))
  const text = lacking.map((any) => featureNames(featureSet(...any), F).join(' or ')).join(' and ')
  return `it needs ${text}`
}

/** Whether no offload among these lacks another one that it needs. */
export const isConsistent = (features: bigint): boolean => unmetFeatures(features, VIRTIO_NET_F_NEEDS) === 0n

/** Each bit that has a name, in order. @param offered what is left of the offer on the transport. */
export function explain({ features, refusals }: Offer, offered: bigint, accepted: bigint): FeatureExplanation[] {
  return known.map((bit) => {
    const withheld: Refusal = { by: 'transport', why: 'the transport does not allow it' }
    const refused = refusals.get(bit) ?? (hasFeature(features & ~offered, bit) ? withheld : null)
    const server = hasFeature(OWN, bit) ? 'device' : 'backend'
    return {
      bit,
      name: featureNames(featureSet(bit), F)[0]!,
      offeredBy: refused === null ? server : null,
      refused,
      accepted: hasFeature(accepted, bit),
    }
  })
}
