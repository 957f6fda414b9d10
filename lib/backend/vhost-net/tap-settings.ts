// What a tap that is not ours was set to before we changed it.

import { TUN_F } from '../../abi/tun.ts'
import type { Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'

/** TUN_F_* by the name that ethtool gives what they allow (set_offload in drivers/net/tun.c). */
const OFFLOAD_NAMES: readonly (readonly [name: string, offload: number])[] = [
  ['tx-checksum-ip-generic', TUN_F.TUN_F_CSUM],
  ['tx-tcp-segmentation', TUN_F.TUN_F_TSO4],
  ['tx-tcp6-segmentation', TUN_F.TUN_F_TSO6],
  ['tx-tcp-ecn-segmentation', TUN_F.TUN_F_TSO_ECN],
  ['tx-udp-segmentation', TUN_F.TUN_F_USO4 | TUN_F.TUN_F_USO6],
  ['tx-udp_tnl-segmentation', TUN_F.TUN_F_UDP_TUNNEL_GSO],
  ['tx-udp_tnl-csum-segmentation', TUN_F.TUN_F_UDP_TUNNEL_GSO_CSUM],
]

/** Of a macvtap the kernel shows whether its reader takes large frames, and no more (set_offload in drivers/net/tap.c). */
const MACVTAP_OFFLOAD_NAMES: typeof OFFLOAD_NAMES = [
  ['rx-gro', TUN_F.TUN_F_CSUM | TUN_F.TUN_F_TSO4 | TUN_F.TUN_F_TSO6 | TUN_F.TUN_F_TSO_ECN],
]

/**
 * TUNSETSNDBUF reaches every queue of the tap, TUNGETSNDBUF tells only this one's, and a queue that was just opened has
 * 2³¹−1 whatever the others have (tun_set_sndbuf and tun_chr_open in drivers/net/tun.c). So the others keep theirs where
 * this one has what it should.
 */
export function setSndbuf(queue: Tap, bytes: number): void {
  // Of a macvtap it is this queue's alone, and nobody tells it (drivers/net/tap.c).
  if (queue.macvtap || queue.getSndbuf() !== bytes) queue.setSndbuf(bytes)
}

/** Header size, byte order, offloads and send buffer, but of a macvtap: what a queue pair sets when it starts. */
export class TapSettings {
  /** TUN_F_*, which only ethtool tells. */
  readonly offload: number
  readonly #vnetHdrSz: number
  readonly #vnetLe: boolean
  readonly #sndbuf: number | undefined

  private constructor(queue: Tap, offload: number) {
    this.offload = offload
    this.#vnetHdrSz = queue.getVnetHdrSz()
    this.#vnetLe = queue.getVnetLe()
    this.#sndbuf = queue.macvtap ? undefined : queue.getSndbuf()
  }

  /** @param features the device's, as ethtool has them. */
  static of(queue: Tap, features: Readonly<Record<string, boolean>>): TapSettings {
    const names = queue.macvtap ? MACVTAP_OFFLOAD_NAMES : OFFLOAD_NAMES
    const offload = names.reduce((flags, [name, flag]) => flags | (features[name] ? flag : 0), 0)
    return new TapSettings(queue, offload)
  }

  /** Each of it, whatever becomes of the others. */
  putBack(queue: Tap): void {
    const all = new Teardown()
    const sndbuf = this.#sndbuf
    if (sndbuf !== undefined) all.add(() => setSndbuf(queue, sndbuf))
    all.add(() => queue.setOffload(this.offload))
    all.add(() => queue.setVnetLe(this.#vnetLe))
    all.add(() => queue.setVnetHdrSz(this.#vnetHdrSz))
    all.run()
  }
}
