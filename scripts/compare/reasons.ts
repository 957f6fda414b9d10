// Why a NIC of ours has other features than QEMU's with the same options: every difference that there may be, and must be.

import type { VIRTIO_F } from '../../lib/abi/virtio.ts'
import type { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'

export type FeatureName = keyof typeof VIRTIO_F | keyof typeof VIRTIO_NET_F

/** Where they were compared: versions as their makers write them. */
export interface Where {
  readonly host: string
  readonly qemu: string
}

export interface Reason {
  readonly features: readonly FeatureName[]
  /** Who offers them, and not the other one. */
  readonly only: 'ours' | 'qemu'
  /** A feature that neither offers where this is the reason. */
  readonly without?: FeatureName
  /** Where the difference is to be expected; everywhere, if there is none. */
  readonly expected?: (where: Where) => boolean
  /** Sentences, with their source. */
  readonly why: string
}

/** Whether a version such as `'6.12.117+deb13-amd64'` is at least that one. */
function since(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  return ownMajor > major || (ownMajor === major && ownMinor >= minor)
}

/** A device must not offer what lacks something that it needs; QEMU's has a switch for each bit, and no rule. */
const needs = (feature: string): string =>
  `Needs ${feature}, and must not be offered without it (sections 2.2 and 5.1.3.1); QEMU goes by each option alone.`

/** QEMU's files are those of 7.2 and 10.0; hw/net/virtio-net.c where none is named. The first reason that fits counts. */
export const REASONS: readonly Reason[] = [
  {
    features: ['VIRTIO_NET_F_MQ'],
    only: 'ours',
    why: 'On by default where there are several queue pairs. QEMU leaves all but one idle until it is told mq=on.',
  },
  {
    features: ['VIRTIO_NET_F_GUEST_USO4', 'VIRTIO_NET_F_GUEST_USO6', 'VIRTIO_NET_F_HOST_USO'],
    only: 'ours',
    // Before, no tap has them.
    expected: ({ host, qemu }) => since(host, 6, 2) && !since(qemu, 8, 2),
    why: 'QEMU has UDP segmentation offload since 8.2 (hw/core/machine.c: hw_compat_8_1).',
  },
  {
    features: ['VIRTIO_F_RING_RESET'],
    only: 'ours',
    expected: ({ host }) => !since(host, 6, 2),
    why:
      'A ring is reset by VHOST_NET_SET_BACKEND(-1) and started again, on every kernel. QEMU goes by what ' +
      'VHOST_GET_FEATURES lists (hw/net/vhost_net.c: kernel_feature_bits), and before Linux 6.2 that is not this bit.',
  },
  {
    features: [
      'VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO',
      'VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM',
      'VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO',
      'VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM',
    ],
    only: 'ours',
    expected: ({ host }) => since(host, 6, 17),
    why: "QEMU's virtio-mmio has 64 feature bits, ours 128 (hw/virtio/virtio-mmio.c: VIRTIO_MMIO_DEVICE_FEATURES_SEL).",
  },
  {
    features: ['VIRTIO_NET_F_GUEST_UFO'],
    only: 'qemu',
    why:
      'A tap takes TUN_F_UFO and ignores it (drivers/net/tun.c: set_offload), so that nothing arrives by this bit. ' +
      'QEMU offers it because the tap took it (net/tap-linux.c: tap_probe_has_ufo).',
  },
  {
    features: ['VIRTIO_NET_F_CTRL_VLAN', 'VIRTIO_NET_F_CTRL_RX_EXTRA'],
    only: 'qemu',
    why:
      'QEMU keeps what the guest asks for, and goes by it in its own path of packets alone (hw/net/virtio-net.c: receive_filter), which ' +
      "vhost's do not take: with vhost=on nothing is filtered. A tap cannot, so that the bits are not offered here.",
  },
  {
    features: ['VIRTIO_NET_F_HOST_TSO4', 'VIRTIO_NET_F_HOST_TSO6', 'VIRTIO_NET_F_HOST_ECN', 'VIRTIO_NET_F_HOST_UFO'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_CSUM',
    why: needs('CSUM'),
  },
  {
    features: ['VIRTIO_NET_F_HOST_USO'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_CSUM',
    expected: ({ host, qemu }) => since(host, 6, 2) && since(qemu, 8, 2),
    why: needs('CSUM'),
  },
  {
    features: ['VIRTIO_NET_F_GUEST_TSO4', 'VIRTIO_NET_F_GUEST_TSO6', 'VIRTIO_NET_F_GUEST_ECN'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_GUEST_CSUM',
    why: needs('GUEST_CSUM'),
  },
  {
    features: ['VIRTIO_NET_F_GUEST_USO4', 'VIRTIO_NET_F_GUEST_USO6'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_GUEST_CSUM',
    expected: ({ host, qemu }) => since(host, 6, 2) && since(qemu, 8, 2),
    why: needs('GUEST_CSUM'),
  },
  {
    features: ['VIRTIO_NET_F_CTRL_RX', 'VIRTIO_NET_F_CTRL_MAC_ADDR', 'VIRTIO_NET_F_CTRL_GUEST_OFFLOADS'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_CTRL_VQ',
    why: `${needs('CTRL_VQ')} Linux's driver refuses such a device (drivers/net/virtio_net.c: virtnet_validate_features).`,
  },
  {
    features: ['VIRTIO_NET_F_GUEST_ANNOUNCE'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_CTRL_VQ',
    expected: ({ qemu }) => !since(qemu, 8, 0),
    why: 'It needs CTRL_VQ (section 5.1.3.1), which QEMU heeds since 8.0.',
  },
  {
    features: ['VIRTIO_NET_F_GUEST_ANNOUNCE'],
    only: 'qemu',
    without: 'VIRTIO_NET_F_STATUS',
    why: 'A device asks for announcements by a bit of the status field (section 5.1.4), which there is with STATUS only.',
  },
]
