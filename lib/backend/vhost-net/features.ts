// Which virtio feature bits vhost-net and a tap serve, and what they mean to each.

import { TUN_F } from '../../abi/tun.ts'
import { VHOST_F } from '../../abi/vhost.ts'
import { VIRTIO_F } from '../../abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_HDR_TUNNEL_SIZE } from '../../abi/virtio-net.ts'
import { FeatureNegotiationError, SystemCallError } from '../../errors.ts'
import type { Tap } from '../../host/tap.ts'
import { featureBits, featureSet, hasFeature } from '../../virtio/features.ts'

/** `'VIRTIO_F_VERSION_1 (32)'` by bit number. */
const names = new Map<number, string>(
  Object.entries({ ...VIRTIO_F, ...VIRTIO_NET_F }).map(([name, number]) => [number, `${name} (${number})`]),
)

/**
 * Bits in VHOST_GET_FEATURES that a guest must never reach: 24 is of legacy devices only; 26 is our dirty log; 27 means
 * "vhost adds the header", not ANY_LAYOUT; 33 puts an IOTLB in front of memory, without which SET_BACKEND answers EFAULT
 * (drivers/vhost/net.c).
 */
const NOT_FOR_GUESTS = featureSet(
  VIRTIO_F.VIRTIO_F_NOTIFY_ON_EMPTY,
  VHOST_F.VHOST_F_LOG_ALL,
  VHOST_F.VHOST_NET_F_VIRTIO_NET_HDR,
  VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM,
)

/** What the driver may send that needs nothing but IFF_VNET_HDR. */
const HOST_OFFLOADS = featureSet(
  VIRTIO_NET_F.VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F.VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F.VIRTIO_NET_F_HOST_UFO,
)

/** What the driver may be sent, and what allows the tap to do so; every tap can. */
const GUEST_OFFLOADS: readonly (readonly [feature: number, offload: number])[] = [
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM, TUN_F.TUN_F_CSUM],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4, TUN_F.TUN_F_TSO4],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6, TUN_F.TUN_F_TSO6],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN, TUN_F.TUN_F_TSO_ECN],
]

/** A tap does both of them or neither (drivers/net/tun.c: set_offload). */
const GUEST_USO = featureSet(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6)
const USO = GUEST_USO | featureSet(VIRTIO_NET_F.VIRTIO_NET_F_HOST_USO)
const TUN_USO = TUN_F.TUN_F_USO4 | TUN_F.TUN_F_USO6

/** vhost knows those that make the header longer, the tap the others, too. */
const VHOST_TUNNEL = featureSet(
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
  VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
)
const TUNNEL =
  VHOST_TUNNEL |
  featureSet(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM, VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM)
const GUEST_TUNNELS: typeof GUEST_OFFLOADS = [
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO, TUN_F.TUN_F_UDP_TUNNEL_GSO],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM, TUN_F.TUN_F_UDP_TUNNEL_GSO_CSUM],
]
const TUN_TUNNEL = TUN_F.TUN_F_UDP_TUNNEL_GSO | TUN_F.TUN_F_UDP_TUNNEL_GSO_CSUM

/** What every tap offloads; an older kernel refuses a set with more in it. */
const TUN_BASE = TUN_F.TUN_F_CSUM | TUN_F.TUN_F_TSO4 | TUN_F.TUN_F_TSO6 | TUN_F.TUN_F_TSO_ECN
const TUN_SETS = [TUN_BASE | TUN_USO | TUN_TUNNEL, TUN_BASE | TUN_USO, TUN_BASE]

/**
 * The TUN_F_* that this kernel's taps know: the largest set that one takes. It is set to `before` again.
 * @throws {SystemCallError} `EBADFD`
 */
export function probeOffloads(tap: Tap, before: number): number {
  const known = TUN_SETS.find((set) => takesOffload(tap, set))
  tap.setOffload(before)
  return known ?? 0
}

function takesOffload(tap: Tap, offload: number): boolean {
  try {
    tap.setOffload(offload)
    return true
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EINVAL') return false
    throw error
  }
}

/** The bits that a vhost-net with these features and a tap with these TUN_F_* serve together. */
export function servedFeatures(vhost: bigint, offloads: number): bigint {
  const guest = featureSet(...GUEST_OFFLOADS.map(([feature]) => feature))
  const uso = (offloads & TUN_USO) === TUN_USO ? USO : 0n
  const tunnel = (offloads & TUN_TUNNEL) === TUN_TUNNEL && (vhost & VHOST_TUNNEL) === VHOST_TUNNEL ? TUNNEL : 0n
  return (vhost & ~NOT_FOR_GUESTS & ~VHOST_TUNNEL) | HOST_OFFLOADS | guest | uso | tunnel
}

/** Why a bit is not among those served by a tap with these TUN_F_*. */
export function whyNotServed(feature: number, offloads: number): string {
  const bit = featureSet(feature)
  if (bit & NOT_FOR_GUESTS) return 'means something else to vhost-net than to a guest'
  if (bit & USO) return "this kernel's tap lacks TUN_F_USO4 and TUN_F_USO6 (Linux 6.2)"
  if (bit & TUNNEL) {
    const lacking = (offloads & TUN_TUNNEL) === TUN_TUNNEL ? 'vhost-net' : "this kernel's tap"
    return `${lacking} knows no UDP tunnels (Linux 6.17)`
  }
  if (feature === VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UFO) return 'a tap passes no UDP packets on unfragmented'
  return 'VHOST_GET_FEATURES does not list it'
}

/** The part of the agreed bits that VHOST_SET_FEATURES takes. */
export function vhostFeatures(agreed: bigint, vhost: bigint): bigint {
  return agreed & vhost & ~NOT_FOR_GUESTS
}

/** The TUN_F_* that the agreed bits allow. */
export function tapOffload(agreed: bigint): number {
  const uso = (agreed & GUEST_USO) === GUEST_USO ? TUN_USO : 0
  return [...GUEST_OFFLOADS, ...GUEST_TUNNELS].reduce(
    (flags, [feature, offload]) => flags | (hasFeature(agreed, feature) ? offload : 0),
    uso,
  )
}

/** Bytes of header in front of each frame, by which vhost goes, too (drivers/vhost/net.c: vhost_net_set_features). */
export function vnetHdrSize(agreed: bigint): number {
  return (agreed & VHOST_TUNNEL) === 0n ? VIRTIO_NET_HDR_SIZE : VIRTIO_NET_HDR_TUNNEL_SIZE
}

/**
 * Checks that the tap puts the header in front of each frame that vhost takes: no kernel does, and frames would be
 * misread in silence.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISMATCH`
 */
export function checkVnetHdrSize(tap: Tap, agreed: bigint): void {
  const [wanted, found] = [vnetHdrSize(agreed), tap.getVnetHdrSz()]
  if (found === wanted) return
  const problem = `${tap.label} has ${found} bytes of virtio header, ${wanted} were agreed on`
  throw new FeatureNegotiationError('ERR_FEATURE_MISMATCH', problem, {
    hint: 'Another process that is attached to the tap changes it: stop that one, or use a tap of its own.',
    context: { ifname: tap.ifname, found, wanted },
  })
}

/**
 * Checks that the agreed bits can be served.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`
 */
export function checkFeatures(agreed: bigint, served: bigint): void {
  const missing = agreed & ~served
  const context = { features: `0x${agreed.toString(16)}` }
  if (missing !== 0n) {
    throw new FeatureNegotiationError('ERR_FEATURE_MISSING', `vhost-net does not serve ${featureNames(missing)}`, {
      hint: "Agree only on bits of the backend's `features`.",
      context,
    })
  }
  if (!hasFeature(agreed, VIRTIO_F.VIRTIO_F_VERSION_1)) {
    throw new FeatureNegotiationError('ERR_FEATURE_MISSING', 'the driver did not accept VIRTIO_F_VERSION_1 (32)', {
      hint: 'Legacy devices are not supported.',
      context,
    })
  }
}

/**
 * Checks that a pair may run with these bits beside others that run with those: header size and offloads are the whole
 * tap's, and what one pair sets would change what the others read.
 * @param agreed undefined where no other runs.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISMATCH`
 */
export function checkAgreed(pair: string, features: bigint, agreed: bigint | undefined): void {
  if (agreed === undefined || agreed === features) return
  throw new FeatureNegotiationError('ERR_FEATURE_MISMATCH', `${pair} differs in ${featureNames(agreed ^ features)}`, {
    hint: 'All pairs that run at the same time agree on the same features: stop the others first.',
    context: { features: `0x${features.toString(16)}`, agreed: `0x${agreed.toString(16)}` },
  })
}

/**
 * Checks that a tap with these TUN_F_* can take the place of one with which these bits are served.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`
 */
export function checkOffloads(ifname: string, offloads: number, served: bigint, vhost: bigint): void {
  const missing = served & ~servedFeatures(vhost, offloads)
  if (missing === 0n) return
  throw new FeatureNegotiationError('ERR_FEATURE_MISSING', `tap ${ifname} does not serve ${featureNames(missing)}`, {
    hint: 'A guest was offered that, and keeps it.',
    context: { ifname, features: `0x${missing.toString(16)}` },
  })
}

/** `['TUN_F_CSUM', 'TUN_F_TSO4']` */
export function offloadNames(offloads: number): string[] {
  return Object.entries(TUN_F).flatMap(([name, flag]) => ((offloads & flag) === 0 ? [] : [name]))
}

/** `'VIRTIO_NET_F_MRG_RXBUF (15), VIRTIO_F_VERSION_1 (32)'` */
export function featureNames(features: bigint): string {
  return featureBits(features)
    .map((number) => names.get(number) ?? `bit ${number}`)
    .join(', ')
}
