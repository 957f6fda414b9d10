// Receives on every queue pair and gives each frame to the endpoint it is for.

import { EventEmitter, once, setMaxListeners } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { VIRTIO_NET_HDR_SIZE } from '../../abi/virtio-net.ts'
import { Burst } from '../../driver/index.ts'
import type { Endpoint } from './endpoint.ts'
import { ARP_OPERATION, buildArp, ETHERTYPE, etherType, ipv4Destination, isEchoReply, parseArp } from './frames.ts'

const BURST = 64

/**
 * All endpoints. A reply may arrive on any pair: tun notes the queue of a flow only after it has delivered the frame
 * (tun_get_user: netif_receive_skb, then tun_flow_update), so the answer to the first one goes by the flow's hash.
 */
export class Endpoints {
  readonly all: readonly Endpoint[]
  readonly #byAddress: ReadonlyMap<number, Endpoint>
  readonly #wake = new EventEmitter<{ received: [] }>()
  readonly #scope: AbortController
  readonly #stop = new AbortController()
  readonly #receiving: Promise<void>[]

  /** Starts to receive. @param scope aborted with the error where receiving fails. */
  constructor(all: readonly Endpoint[], scope: AbortController) {
    this.all = all
    this.#byAddress = new Map(all.map((endpoint) => [endpoint.address, endpoint]))
    this.#scope = scope
    setMaxListeners(0, this.#wake, this.#stop.signal)
    this.#receiving = all.map((endpoint) => this.#receive(endpoint))
  }

  /** Frames made available on all transmit rings so far; each takes one chain. */
  get sent(): number {
    return this.all.reduce((sum, { tx }) => sum + tx.counters().available, 0)
  }

  /** Frames taken from all receive rings so far. */
  get received(): number {
    return this.all.reduce((sum, { rx }) => sum + rx.counters().frames, 0)
  }

  /** Resolves when `condition` holds; looks again whenever frames were received. False where `signal` was first. */
  async until(condition: () => boolean, signal: AbortSignal): Promise<boolean> {
    while (!condition()) {
      if (signal.aborted) return false
      try {
        await once(this.#wake, 'received', { signal })
      } catch (error) {
        if (!signal.aborted) throw error
      }
    }
    return true
  }

  /** A signal that aborts when `signal` does, or once nothing was received for that long. */
  stalled(ms: number, signal: AbortSignal): AbortSignal {
    const quiet = new AbortController()
    const timer = setTimeout(() => quiet.abort(new DOMException(`nothing moved for ${ms} ms`, 'TimeoutError')), ms)
    const again = () => timer.refresh()
    const either = AbortSignal.any([signal, this.#stop.signal, quiet.signal])
    setMaxListeners(0, either)
    this.#wake.on('received', again)
    either.addEventListener('abort', () => {
      clearTimeout(timer)
      this.#wake.off('received', again)
    })
    return either
  }

  /** Stops receiving and answering. Idempotent. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#receiving)
  }

  /** Takes what a device that was stopped after {@link stop} has left in the rings. */
  takeRest(): void {
    const burst = new Burst(BURST)
    for (const endpoint of this.all) while (this.#take(endpoint, burst) > 0);
  }

  async #receive(endpoint: Endpoint): Promise<void> {
    const burst = new Burst(BURST)
    const { signal } = this.#stop
    try {
      while (!signal.aborted) {
        // Between bursts the event loop has its turn: the other pairs, timers, signals.
        if (this.#take(endpoint, burst) > 0) await setImmediate()
        else await endpoint.rx.readable(signal)
      }
    } catch (error) {
      if (!signal.aborted) this.#scope.abort(error)
    }
  }

  #take(endpoint: Endpoint, burst: Burst): number {
    const packets = endpoint.rx.receive(burst)
    if (packets === 0) return 0
    for (let p = 0, segment = 0; p < packets; p++) {
      const segments = burst.segments[p] as number
      const at = (burst.offsets[segment] as number) + VIRTIO_NET_HDR_SIZE
      const length = (burst.lengths[segment] as number) - VIRTIO_NET_HDR_SIZE
      // A buffer holds whatever fits the MTU, so nothing of ours comes in pieces.
      endpoint.counts[segments === 1 ? this.#deliver(endpoint, at, length) : 'other']++
      segment += segments
    }
    endpoint.rx.releaseBurst(burst)
    this.#wake.emit('received')
    return packets
  }

  #deliver(on: Endpoint, at: number, length: number): keyof Endpoint['counts'] {
    const { received } = on
    if (isEchoReply(received, at, length)) {
      const to = this.#byAddress.get(ipv4Destination(received, at))
      return to?.echoTaker?.(received, at, length, on) ? 'echo' : 'other'
    }
    if (length < 14 || etherType(received, at) !== ETHERTYPE.ARP) return 'other'
    this.#arp(received, at, length)
    return 'arp'
  }

  #arp(bytes: Uint8Array, at: number, length: number): void {
    const arp = parseArp(bytes, at, length)
    const to = arp && this.#byAddress.get(arp.target)
    if (arp === undefined || to === undefined) return
    if (arp.operation === ARP_OPERATION.REPLY) to.arpTaker?.(arp.sender, arp.senderMac)
    if (arp.operation !== ARP_OPERATION.REQUEST || this.#stop.signal.aborted) return
    const reply = buildArp({
      operation: ARP_OPERATION.REPLY,
      senderMac: to.mac,
      sender: to.address,
      targetMac: arp.senderMac,
      target: arp.sender,
    })
    to.send(reply, this.#stop.signal).catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#scope.abort(error)
    })
  }
}
