// Options of a virtio-net device, by the names that QEMU gives them, and their checks.

import { randomBytes } from 'node:crypto'
import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import { DUPLEX, SPEED_UNKNOWN, VIRTIO_NET_MTU_MAX, VIRTIO_NET_MTU_MIN } from '../abi/virtio-net-control.ts'
import { parseMac } from '../address.ts'
import type { NetBackend } from '../backend/net-backend.ts'
import { InvalidOptionError } from '../errors.ts'
import type { GuestMemory } from '../memory/index.ts'
import { checkBoolean, checkInteger, checkObject, checkPowerOfTwo, type Unchecked } from '../options.ts'
import { featureSet, hasFeature } from '../virtio/index.ts'

/** The feature bit behind each option that is on or off. */
export const FEATURE_OPTIONS = {
  csum: VIRTIO_NET_F.VIRTIO_NET_F_CSUM,
  guest_csum: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM,
  guest_tso4: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4,
  guest_tso6: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6,
  guest_ecn: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN,
  guest_ufo: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UFO,
  guest_uso4: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4,
  guest_uso6: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6,
  guest_tunnel: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
  guest_tunnel_csum: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM,
  host_tso4: VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4,
  host_tso6: VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6,
  host_ecn: VIRTIO_NET_F.VIRTIO_NET_F_HOST_ECN,
  host_ufo: VIRTIO_NET_F.VIRTIO_NET_F_HOST_UFO,
  host_uso: VIRTIO_NET_F.VIRTIO_NET_F_HOST_USO,
  host_tunnel: VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
  host_tunnel_csum: VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM,
  status: VIRTIO_NET_F.VIRTIO_NET_F_STATUS,
  ctrl_vq: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ,
  ctrl_rx: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX,
  ctrl_mac_addr: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_MAC_ADDR,
  ctrl_guest_offloads: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  guest_announce: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE,
  mq: VIRTIO_NET_F.VIRTIO_NET_F_MQ,
  event_idx: VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
  indirect_desc: VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC,
  in_order: VIRTIO_F.VIRTIO_F_IN_ORDER,
} as const

/** Offered by every device, whatever the options. */
export const ALWAYS = featureSet(
  VIRTIO_NET_F.VIRTIO_NET_F_MAC,
  VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_F.VIRTIO_F_VERSION_1,
  VIRTIO_F.VIRTIO_F_RING_RESET,
)

/** Bits that come with a value. */
const SETTABLE = featureSet(VIRTIO_NET_F.VIRTIO_NET_F_MTU, VIRTIO_NET_F.VIRTIO_NET_F_SPEED_DUPLEX)

/** QEMU's: a guest may take fewer entries. */
const QUEUE_SIZE_MIN = 256
/** vhost takes no more descriptors at once (drivers/vhost/net.c: UIO_MAXIOV). */
const QUEUE_SIZE_MAX = 1024
const SPEED_MAX = 0x7fff_ffff

/**
 * Features that a guest is not to be offered, though they could be; each is on by default, as in QEMU, but for two:
 * `in_order` is off, and `mq` is on where there are several queue pairs, which QEMU would leave idle.
 */
export type FeatureOptions = { [name in keyof typeof FEATURE_OPTIONS]?: boolean }

export interface VirtioNetSettings extends FeatureOptions {
  /** `'52:54:00:12:34:56'`. Default: one in QEMU's range, by chance. */
  mac?: string
  /** The largest packet without Ethernet header that the network takes, 68..65535; the guest goes by it. Default: not told. */
  host_mtu?: number
  /** Mbit/s, 0..2³¹−1: told to the guest, and nothing else. Default: unknown. */
  speed?: number
  /** Likewise. */
  duplex?: 'half' | 'full'
  /** Largest size of each receive ring: a power of two, 256..1024. Default 256. */
  rx_queue_size?: number
  /** Of each transmit ring. */
  tx_queue_size?: number
  /** Mergeable receive buffers are always offered: the option says so, and takes no other value. */
  mrg_rxbuf?: true
}

export interface VirtioNetDeviceOptions extends VirtioNetSettings {
  memory: GuestMemory
  /** Where packets go; it decides about the number of queue pairs. It stays its giver's. */
  backend: NetBackend
}

const SETTINGS = [
  ...Object.keys(FEATURE_OPTIONS),
  ...['mac', 'host_mtu', 'speed', 'duplex', 'rx_queue_size', 'tx_queue_size', 'mrg_rxbuf'],
]

export interface CheckedSettings {
  mac: Uint8Array
  mtu: number | undefined
  speed: number
  duplex: number
  rxQueueSize: number
  txQueueSize: number
  /** The bits to offer where they can be served, but for MQ. */
  requested: bigint
  mq: boolean | undefined
}

/**
 * @param more options besides the device's settings; checked by whoever knows them.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 */
export function checkSettings(options: unknown, more: readonly string[]): CheckedSettings {
  const given = checkObject(options, [...more, ...SETTINGS])
  if (given.mrg_rxbuf !== undefined && given.mrg_rxbuf !== true) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'mrg_rxbuf', 'mergeable receive buffers are always offered')
  }
  const size = (option: string): number =>
    checkPowerOfTwo(given[option], option, QUEUE_SIZE_MIN, QUEUE_SIZE_MAX, QUEUE_SIZE_MIN)
  const { mq, ...switches } = checkSwitches(given)
  const mtu =
    given.host_mtu === undefined
      ? undefined
      : checkInteger(given.host_mtu, 'host_mtu', VIRTIO_NET_MTU_MIN, VIRTIO_NET_MTU_MAX)
  return {
    mac: checkMac(given.mac),
    mtu,
    speed: given.speed === undefined ? SPEED_UNKNOWN : checkInteger(given.speed, 'speed', 0, SPEED_MAX),
    duplex: checkDuplex(given.duplex),
    rxQueueSize: size('rx_queue_size'),
    txQueueSize: size('tx_queue_size'),
    requested: requestedBits(switches, given),
    mq,
  }
}

function checkSwitches(given: Unchecked): Record<string, boolean> & { mq?: boolean } {
  const switches: Record<string, boolean> = {}
  for (const name of Object.keys(FEATURE_OPTIONS)) {
    const value = given[name]
    if (value === undefined) continue
    switches[name] = checkBoolean(value, name)
  }
  return switches
}

function requestedBits(switches: Record<string, boolean>, given: Unchecked): bigint {
  const bits = Object.entries<number>(FEATURE_OPTIONS).flatMap(([name, bit]) => {
    if (name === 'mq') return []
    return (switches[name] ?? name !== 'in_order') ? [bit] : []
  })
  if (given.host_mtu !== undefined) bits.push(VIRTIO_NET_F.VIRTIO_NET_F_MTU)
  if (given.speed !== undefined || given.duplex !== undefined) bits.push(VIRTIO_NET_F.VIRTIO_NET_F_SPEED_DUPLEX)
  return ALWAYS | featureSet(...bits)
}

/** The bits to offer where they can be served. */
export function requestedFeatures({ requested, mq }: CheckedSettings, queuePairs: number): bigint {
  return (mq ?? queuePairs > 1) ? requested | featureSet(FEATURE_OPTIONS.mq) : requested
}

/** Whether a station can have the address: no group's, and not nobody's. */
export function isStation(mac: Uint8Array): boolean {
  return (mac[0]! & 1) === 0 && mac.some((byte) => byte !== 0)
}

function checkMac(value: unknown): Uint8Array {
  if (value === undefined) return Uint8Array.of(0x52, 0x54, 0, ...randomBytes(3))
  const mac = parseMac(value, 'mac')
  if (isStation(mac)) return mac
  throw new InvalidOptionError('ERR_OPTION_RANGE', 'mac', `${value} is not the address of a single station`)
}

function checkDuplex(value: unknown): number {
  if (value === undefined) return DUPLEX.DUPLEX_UNKNOWN
  if (value === 'half') return DUPLEX.DUPLEX_HALF
  if (value === 'full') return DUPLEX.DUPLEX_FULL
  throw new InvalidOptionError('ERR_OPTION_RANGE', 'duplex', "must be 'half' or 'full'")
}

/** Whether a device can offer the bit at all. */
export function isOptional(bit: number): boolean {
  return (Object.values(FEATURE_OPTIONS) as number[]).includes(bit) || hasFeature(ALWAYS | SETTABLE, bit)
}
