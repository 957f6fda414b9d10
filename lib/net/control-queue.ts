// The control virtqueue (virtio 1.x section 5.1.6.5): a command of the driver's, what it means, and the answer.

import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import {
  VIRTIO_NET_CTRL,
  VIRTIO_NET_CTRL_ANNOUNCE_ACK,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from '../abi/virtio-net-control.ts'
import type { DescriptorChain } from '../virtio/index.ts'
import { BrokenRing } from '../virtio/ring-fault.ts'
import { offloadsOf } from './offloads.ts'
import { parseMacTables, type RxModes } from './rx-filter.ts'

/** Class and command, u8 each. */
const HEADER_SIZE = 2
/** Most bytes of a command: MAC tables of some ten thousand addresses. No other command comes near. */
export const MAX_COMMAND = 65_536

/** What commands do. Each has happened when the method returns, or has not where it throws. */
export interface ControlTarget {
  negotiated(feature: number): boolean
  setRxModes(change: Partial<RxModes>): void
  /** @returns whether a station can have that address. */
  setMac(mac: Uint8Array): boolean
  acknowledgeAnnounce(): void
  /** @returns whether there are that many. */
  setActivePairs(pairs: number): boolean
  /** @returns whether these were agreed on, each with what it needs. */
  setOffloads(offloads: bigint): boolean
}

interface Command {
  readonly name: string
  readonly class: number
  readonly command: number
  /** Without it there is no such command. */
  readonly feature: number
  /** Bytes of its data; undefined where it says so itself. */
  readonly size: number | undefined
  /** Returns whether it could be done. */
  readonly run: (data: DataView, target: ControlTarget) => boolean
}

const rxMode =
  (mode: 'promiscuous' | 'allMulticast'): Command['run'] =>
  (data, target) => {
    const on = data.getUint8(0)
    if (on > 1) return false
    target.setRxModes({ [mode]: on === 1 })
    return true
  }

const COMMANDS: readonly Command[] = [
  {
    name: 'RX_PROMISC',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_RX,
    command: VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_PROMISC,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX,
    size: 1,
    run: rxMode('promiscuous'),
  },
  {
    name: 'RX_ALLMULTI',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_RX,
    command: VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_ALLMULTI,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX,
    size: 1,
    run: rxMode('allMulticast'),
  },
  {
    name: 'MAC_TABLE_SET',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_MAC,
    command: VIRTIO_NET_CTRL_MAC.VIRTIO_NET_CTRL_MAC_TABLE_SET,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX,
    size: undefined,
    run: (data, target) => {
      const tables = parseMacTables(data)
      if (tables !== undefined) target.setRxModes(tables)
      return tables !== undefined
    },
  },
  {
    name: 'MAC_ADDR_SET',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_MAC,
    command: VIRTIO_NET_CTRL_MAC.VIRTIO_NET_CTRL_MAC_ADDR_SET,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_MAC_ADDR,
    size: 6,
    run: (data, target) => target.setMac(new Uint8Array(data.buffer, data.byteOffset, 6).slice()),
  },
  {
    name: 'ANNOUNCE_ACK',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_ANNOUNCE,
    command: VIRTIO_NET_CTRL_ANNOUNCE_ACK,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE,
    size: 0,
    run: (_data, target) => {
      target.acknowledgeAnnounce()
      return true
    },
  },
  {
    name: 'MQ_VQ_PAIRS_SET',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_MQ,
    command: VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_MQ,
    size: 2,
    run: (data, target) => target.setActivePairs(data.getUint16(0, true)),
  },
  {
    name: 'GUEST_OFFLOADS_SET',
    class: VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_GUEST_OFFLOADS,
    command: VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
    feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    size: 8,
    run: (data, target) => {
      const offloads = offloadsOf(data.getBigUint64(0, true))
      return offloads !== undefined && target.setOffloads(offloads)
    },
  },
]

/** How commands were answered. */
export interface CommandCounts {
  ok: number
  err: number
}

/** Serves commands one after the other; each is in force before its buffer goes back. */
export class ControlQueue {
  readonly #target: ControlTarget
  readonly #counts: Record<string, CommandCounts> = {}
  #lastError: string | null = null

  constructor(target: ControlTarget) {
    this.#target = target
  }

  /** @throws {BrokenRing} `no-room-for-answer` */
  serve(chain: DescriptorChain): void {
    if (chain.writable === 0) throw new BrokenRing('no-room-for-answer', 'a control command has no byte for its answer')
    chain.write(Uint8Array.of(this.#execute(chain) ? VIRTIO_NET_OK : VIRTIO_NET_ERR))
  }

  #execute(chain: DescriptorChain): boolean {
    if (chain.readable < HEADER_SIZE || chain.readable > MAX_COMMAND) return this.#count('malformed', false)
    const bytes = chain.read(chain.readable)
    const data = new DataView(bytes.buffer, HEADER_SIZE)
    const command = COMMANDS.find((known) => known.class === bytes[0] && known.command === bytes[1])
    if (command === undefined || !this.#target.negotiated(command.feature)) return this.#count('unknown', false)
    const whole = command.size === undefined || command.size === data.byteLength
    return this.#count(command.name, whole && this.#run(command, data))
  }

  /** What the host could not do is the driver's to try again, and the embedder's to look at. */
  #run({ name, run }: Command, data: DataView): boolean {
    try {
      return run(data, this.#target)
    } catch (error) {
      this.#lastError = `${name}: ${error instanceof Error ? error.message : error}`
      return false
    }
  }

  #count(name: string, ok: boolean): boolean {
    this.#counts[name] ??= { ok: 0, err: 0 }
    const counts = this.#counts[name]
    if (ok) counts.ok++
    else counts.err++
    return ok
  }

  /** Answers by command, since the device was made. `unknown`: not agreed on, or not there at all. */
  get counts(): Record<string, CommandCounts> {
    return structuredClone(this.#counts)
  }

  /** Why the host could not do what a command asked for, the last time; null where it always could. */
  get lastError(): string | null {
    return this.#lastError
  }
}
