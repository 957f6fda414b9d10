// The other end of a device's wire: a tap of this process's own on a bridge with the device's. It shows each frame with
// what the kernel knows of it, and puts frames on the wire of which the kernel is told what a header says.

import { readSync, writeSync } from 'node:fs'
import { IFF } from '../../lib/abi/tun.ts'
import { VIRTIO_NET_HDR_SIZE, VIRTIO_NET_HDR_TUNNEL_SIZE } from '../../lib/abi/virtio-net.ts'
import { probeOffloads } from '../../lib/backend/vhost-net/features.ts'
import { type RtNetlink, Tap } from '../../lib/host/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { Bridge } from './bridge.ts'
import { since } from './kernel.ts'
import { soon } from './soon.ts'
import { decodeVnetHdr, encodeVnetHdr, type VnetHdr } from './vnet-hdr.ts'

/** A kernel without tunnels in it has the short header. */
const HEADER = since(6, 17) ? VIRTIO_NET_HDR_TUNNEL_SIZE : VIRTIO_NET_HDR_SIZE
const buffer = Buffer.alloc(2 ** 17)

export interface WireFrame {
  header: VnetHdr
  bytes: Buffer
}

export class FarEnd {
  readonly #tap: Tap
  readonly #closing: Teardown
  readonly #waiting: WireFrame[] = []

  private constructor(tap: Tap, closing: Teardown) {
    this.#tap = tap
    this.#closing = closing
  }

  /**
   * Plugs both taps into a bridge that nothing else is on. This one takes every offload that the kernel knows.
   * @param options.napi frames that it sends go through GRO, which looks at their checksums as a NIC does.
   */
  static async open(netlink: RtNetlink, ifname: string, { napi = false } = {}): Promise<FarEnd> {
    const closing = new Teardown()
    try {
      const flags = IFF.IFF_TAP | IFF.IFF_NO_PI | IFF.IFF_VNET_HDR | (napi ? IFF.IFF_NAPI : 0)
      const tap = closing.own(Tap.attach('vnf%d', flags))
      tap.setVnetHdrSz(HEADER)
      tap.setVnetLe(true)
      tap.setOffload(probeOffloads(tap, 0))
      const bridge = closing.own(new Bridge(netlink))
      await bridge.plugIn(ifname, tap.ifname)
      return new FarEnd(tap, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  send(bytes: Uint8Array, header: Partial<VnetHdr> = {}): void {
    writeSync(this.#tap.fd, Buffer.concat([encodeVnetHdr(header, HEADER), bytes]))
  }

  #read(): void {
    for (;;) {
      try {
        const packet = Buffer.from(buffer.subarray(0, readSync(this.#tap.fd, buffer)))
        this.#waiting.push({ header: decodeVnetHdr(packet, HEADER), bytes: packet.subarray(HEADER) })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return
        throw error
      }
    }
  }

  /** Resolves with the next frame that comes, whole. */
  async received(): Promise<WireFrame> {
    await soon('a frame at the far end', () => {
      this.#read()
      return this.#waiting.length > 0
    })
    return this.#waiting.shift()!
  }

  close(): void {
    this.#closing.run()
  }
}
