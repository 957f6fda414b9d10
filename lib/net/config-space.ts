// `struct virtio_net_config` (virtio 1.x section 5.1.4): little-endian, its fields there as soon as they are offered.

import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import { VIRTIO_NET_CONFIG } from '../abi/virtio-net-control.ts'
import { type ConfigSpace, hasFeature } from '../virtio/index.ts'

export interface NetConfigValues {
  mac: Uint8Array
  /** VIRTIO_NET_S_* */
  status: number
  maxPairs: number
  mtu: number | undefined
  /** Mbit/s, or SPEED_UNKNOWN. */
  speed: number
  /** DUPLEX_* */
  duplex: number
}

/** Up to the last field that is offered; those before it that are not are 0. */
export function netConfig(features: bigint, values: NetConfigValues): Uint8Array {
  const fields: (readonly [feature: number, offset: number, bytes: Uint8Array])[] = [
    [VIRTIO_NET_F.VIRTIO_NET_F_MAC, VIRTIO_NET_CONFIG.mac, values.mac],
    [VIRTIO_NET_F.VIRTIO_NET_F_STATUS, VIRTIO_NET_CONFIG.status, le16(values.status)],
    [VIRTIO_NET_F.VIRTIO_NET_F_MQ, VIRTIO_NET_CONFIG.max_virtqueue_pairs, le16(values.maxPairs)],
    [VIRTIO_NET_F.VIRTIO_NET_F_MTU, VIRTIO_NET_CONFIG.mtu, le16(values.mtu ?? 0)],
    [VIRTIO_NET_F.VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_CONFIG.speed, le32(values.speed)],
    [VIRTIO_NET_F.VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_CONFIG.duplex, Uint8Array.of(values.duplex)],
  ]
  const there = fields.filter(([feature]) => hasFeature(features, feature))
  const config = new Uint8Array(Math.max(0, ...there.map(([, offset, bytes]) => offset + bytes.length)))
  for (const [, offset, bytes] of there) config.set(bytes, offset)
  return config
}

/** The two fields that change. */
export class NetConfig {
  readonly #space: ConfigSpace
  readonly #hasStatus: boolean
  #mac: Uint8Array
  #status: number

  constructor(space: ConfigSpace, features: bigint, { mac, status }: Pick<NetConfigValues, 'mac' | 'status'>) {
    this.#space = space
    this.#hasStatus = hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_STATUS)
    this.#mac = mac
    this.#status = status
  }

  get mac(): Uint8Array {
    return this.#mac
  }

  set mac(mac: Uint8Array) {
    this.#mac = mac
    this.#space.update(VIRTIO_NET_CONFIG.mac, mac)
  }

  hasStatus(bit: number): boolean {
    return (this.#status & bit) !== 0
  }

  setStatus(bit: number, on: boolean): void {
    this.#status = on ? this.#status | bit : this.#status & ~bit
    if (this.#hasStatus) this.#space.update(VIRTIO_NET_CONFIG.status, le16(this.#status))
  }
}

function le16(value: number): Uint8Array {
  return Uint8Array.of(value, value >> 8)
}

function le32(value: number): Uint8Array {
  return Uint8Array.of(value, value >> 8, value >> 16, value >> 24)
}
