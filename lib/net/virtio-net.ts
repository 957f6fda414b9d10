// The virtio network device (virtio 1.x section 5.1): what its driver sees and may ask for. Packets are the backend's.

import { VIRTIO_ID_NET, VIRTIO_NET_F, VIRTIO_NET_F_NEEDS } from '../abi/virtio-net.ts'
import { VIRTIO_NET_S } from '../abi/virtio-net-control.ts'
import { formatMac } from '../address.ts'
import type { NetBackend, RingFault, RingName } from '../backend/net-backend.ts'
import { StateError } from '../errors.ts'
import {
  BrokenRing,
  featureNames,
  type QueueService,
  VirtioDevice,
  type VirtioDeviceState,
  type Virtqueue,
} from '../virtio/index.ts'
import { NetConfig, netConfig } from './config-space.ts'
import { type CommandCounts, ControlQueue } from './control-queue.ts'
import { explain, type FeatureExplanation, isConsistent, makeOffer, type Offer } from './offer.ts'
import { GUEST_OFFLOADS } from './offloads.ts'
import { checkSettings, isStation, requestedFeatures, type VirtioNetDeviceOptions } from './options.ts'
import { type PairState, QueuePairs } from './queue-pairs.ts'
import { type RxModes, UNFILTERED, withStation } from './rx-filter.ts'

const { VIRTIO_NET_S_LINK_UP: LINK_UP, VIRTIO_NET_S_ANNOUNCE: ANNOUNCE } = VIRTIO_NET_S
/** QEMU's. */
const CONTROL_QUEUE_SIZE = 64

/** What a device is now; JSON-safe. */
export interface VirtioNetState extends VirtioDeviceState {
  mac: string
  /** Held by `pause`. */
  paused: boolean
  link: { up: boolean; announcing: boolean }
  mtu: number | null
  activePairs: number
  pairs: PairState[]
  /** Index of the control queue; null while none is agreed on. */
  controlQueue: number | null
  /** What the driver wants to receive. */
  rxModes: RxModes
  /** Guest offloads that are on. */
  offloads: string[]
  /** Why the host could not do what a command asked for, the last time. */
  lastCommandError: string | null
}

/** What a device has done since it was made; JSON-safe. Frames are counted where they pass: in the kernel. */
export interface VirtioNetStats {
  /** How often a driver brought it to life. */
  activations: number
  /** Answers by command. */
  commands: Record<string, CommandCounts>
}

/** A NIC for a guest, on a backend that stays its giver's: close that after the device. */
export class VirtioNetDevice extends VirtioDevice {
  readonly queuePairs: number
  readonly #backend: NetBackend
  readonly #offer: Offer
  /** As it was given: what a reset brings back. */
  readonly #mac: Uint8Array
  readonly #mtu: number | undefined
  readonly #config: NetConfig
  readonly #pairs: QueuePairs
  readonly #control: ControlQueue
  /** The control queue while it is served. */
  #serving: { queue: Virtqueue; service: QueueService } | undefined
  #rxModes: RxModes = UNFILTERED
  #offloads = 0n
  /** Whether the cable is in, whether there is a network at its other end, and whether that is up. */
  #pluggedIn = true
  #networked = true
  #hostLink = true
  #paused = false
  #closed = false
  #activations = 0

  /**
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` where the backend lacks what every device offers
   * @throws {SystemCallError} `EMFILE`
   */
  constructor(options: VirtioNetDeviceOptions) {
    const settings = checkSettings(options, ['memory', 'backend'])
    const { memory, backend } = options
    const { mac, mtu, speed, duplex, rxQueueSize, txQueueSize } = settings
    const maxPairs = backend.queuePairs
    const offer = makeOffer(requestedFeatures(settings, maxPairs), backend)
    super({
      deviceId: VIRTIO_ID_NET,
      memory,
      features: offer.features,
      rules: VIRTIO_NET_F_NEEDS,
      names: VIRTIO_NET_F,
      queueSizes: [...Array.from({ length: maxPairs }, () => [rxQueueSize, txQueueSize]).flat(), CONTROL_QUEUE_SIZE],
      config: netConfig(offer.features, { mac, status: LINK_UP, maxPairs, mtu, speed, duplex }),
    })
    this.queuePairs = maxPairs
    this.#backend = backend
    this.#offer = offer
    this.#mac = mac
    this.#mtu = mtu
    this.#config = new NetConfig(this.config, offer.features, { mac, status: LINK_UP })
    this.#pairs = new QueuePairs(backend, (error) => this.fault(error))
    this.#control = new ControlQueue({
      negotiated: (feature) => this.negotiated(feature),
      setRxModes: (change) => this.#setRxModes({ ...this.#rxModes, ...change }),
      setMac: (mac) => this.#setMac(mac),
      acknowledgeAnnounce: () => this.#config.setStatus(ANNOUNCE, false),
      setActivePairs: (pairs) => this.#setActivePairs(pairs),
      setOffloads: (offloads) => this.#setOffloads(offloads),
    })
    backend.on('fault', this.#onFault)
    backend.on('gone', this.#onGone)
    backend.on('back', this.#onBack)
  }

  /** The driver has to begin anew: no ring is the same after it was broken. */
  readonly #onFault = ({ pair, ring, cause, message }: RingFault): void => {
    const fault = new BrokenRing(cause, `pair ${pair}: ${message}`)
    this.fault(fault, this.queues[2 * pair + (ring === 'rx' ? 0 : 1)])
  }

  /** The guest loses its link, and its rings stand where they are until there is a network again. */
  readonly #onGone = (): void => {
    this.#networked = false
    this.#quietly(() => this.#pairs.setLink(false))
    this.#showLink()
  }

  /** The cable leads somewhere again. */
  readonly #onBack = (): void => {
    this.#networked = true
    try {
      this.#pairs.setLink(this.#pluggedIn)
    } catch (error) {
      this.fault(error)
      // None is left that could fail to start, and those of the next driver have link.
      this.#pairs.setLink(this.#pluggedIn)
    }
    this.#showLink()
  }

  /** What the driver can use: with one pair agreed on, the control queue comes right behind it (section 5.1.2). */
  get #usablePairs(): number {
    return this.negotiated(VIRTIO_NET_F.VIRTIO_NET_F_MQ) ? this.queuePairs : 1
  }

  /** Index of the control queue; undefined where none is agreed on. */
  get #controlIndex(): number | undefined {
    return this.negotiated(VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ) ? 2 * this.#usablePairs : undefined
  }

  /** Before features are agreed on, all that there may be. */
  override queue(index: number): Virtqueue | undefined {
    const known = !this.maySetUp || index < 2 * this.#usablePairs || index === this.#controlIndex
    return known ? this.queues[index] : undefined
  }

  protected override activate(): void {
    this.#activations++
    this.#offloads = this.accepted & GUEST_OFFLOADS
    this.#pairs.begin({ features: this.accepted & this.#backend.features, offloads: this.#offloads })
  }

  protected override startQueue(queue: Virtqueue): void {
    const { index, vring } = queue
    if (index === this.#controlIndex) {
      const service = this.serveQueue(queue, (chain) => this.#control.serve(chain))
      if (this.#paused) service.pause()
      this.#serving = { queue, service }
    } else if (index < 2 * this.#usablePairs && vring !== undefined) {
      this.#pairs.enable(...placeOf(index), vring)
    }
  }

  /** What was agreed on may be history by now: it goes by what runs. */
  protected override stopQueue(queue: Virtqueue): void {
    if (queue === this.#serving?.queue) {
      this.#serving.service.stop()
      this.#serving = undefined
    } else if (queue.index < 2 * this.queuePairs) {
      this.#pairs.disable(...placeOf(queue.index))
    }
  }

  /** Frames that come until there is a driver again are such as any driver takes. */
  protected override deactivate(): void {
    this.#quietly(() => this.#backend.setOffloads(0n))
    this.#quietly(() => this.#backend.setRxFilter(UNFILTERED))
  }

  protected override resetState(): void {
    this.#rxModes = UNFILTERED
    this.#offloads = 0n
    this.#pairs.begin({ features: 0n, offloads: 0n })
    this.#config.mac = this.#mac
    this.#config.setStatus(ANNOUNCE, false)
  }

  #quietly(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.fault(error)
    }
  }

  #setRxModes(modes: RxModes): void {
    this.#backend.setRxFilter(withStation(modes, this.#config.mac))
    this.#rxModes = modes
  }

  #setMac(mac: Uint8Array): boolean {
    if (!isStation(mac)) return false
    this.#backend.setRxFilter(withStation(this.#rxModes, mac))
    this.#config.mac = mac
    return true
  }

  #setActivePairs(pairs: number): boolean {
    if (pairs < 1 || pairs > this.queuePairs) return false
    this.#pairs.setActive(pairs)
    return true
  }

  #setOffloads(offloads: bigint): boolean {
    if ((offloads & ~this.accepted) !== 0n || !isConsistent(offloads)) return false
    this.#backend.setOffloads(offloads)
    this.#pairs.offloads = offloads
    this.#offloads = offloads
    return true
  }

  /**
   * Plugs the cable in or pulls it (QEMU's `set_link`): the guest is told where STATUS is agreed on, and no packet moves
   * without link. What waits in rings goes on with the link.
   * @throws what the backend throws where a pair does not start, with the link down
   */
  setLink(up: boolean): void {
    try {
      this.#pairs.setLink(up && this.#networked)
      this.#pluggedIn = up
    } catch (error) {
      this.#pluggedIn = false
      throw error
    } finally {
      this.#showLink()
    }
  }

  /**
   * Holds the device, whatever its driver does meanwhile: once this returns, no packet moves, no command is served, and
   * nothing touches a ring or a buffer until `resume`. What waits in rings and in the tap's queues stays there. The guest is
   * told nothing, and may reset the device and set it up again. Does nothing where it is held.
   * @throws what the backend throws where a ring does not stop, with nothing held
   * @throws {StateError} `ERR_CLOSED`
   */
  pause(): void {
    this.#assertOpen()
    if (this.#paused) return
    this.#backend.pause()
    this.#serving?.service.pause()
    this.#paused = true
  }

  /**
   * Lets it go on from where it stood. Both ends of each ring are signalled: no kick of the meantime is lost. Does nothing
   * where it is not held.
   * @throws what the backend throws where a ring does not start, with everything held
   * @throws {StateError} `ERR_CLOSED`
   */
  resume(): void {
    this.#assertOpen()
    if (!this.#paused) return
    this.#backend.resume()
    this.#paused = false
    this.#serving?.service.resume()
  }

  #assertOpen(): void {
    if (this.#closed) throw new StateError('ERR_CLOSED', 'the network device is closed')
  }

  /** Whether the network takes packets: the guest is told, and its rings are let alone. */
  protected set hostLink(up: boolean) {
    this.#hostLink = up
    this.#showLink()
  }

  #showLink(): void {
    this.#config.setStatus(LINK_UP, this.#pluggedIn && this.#networked && this.#hostLink)
  }

  /**
   * Asks the guest to tell the network where it is now, as after a migration (QEMU's `announce-self`). Returns whether it
   * can be asked: it is up, and has agreed on GUEST_ANNOUNCE and STATUS.
   */
  announce(): boolean {
    const able = [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F.VIRTIO_NET_F_STATUS]
    if (this.#serving === undefined || !able.every((feature) => this.negotiated(feature))) return false
    this.#config.setStatus(ANNOUNCE, true)
    return true
  }

  /** Of each feature bit that has a name: who offers it, or who does not and why, and whether the driver accepted it. */
  explainFeatures(): FeatureExplanation[] {
    return explain(this.#offer, this.offered, this.accepted)
  }

  /** What it has done since it was made. */
  stats(): VirtioNetStats {
    return { activations: this.#activations, commands: this.#control.counts }
  }

  override inspect(): VirtioNetState {
    return {
      ...super.inspect(),
      mac: formatMac(this.#config.mac),
      paused: this.#paused,
      link: { up: this.#config.hasStatus(LINK_UP), announcing: this.#config.hasStatus(ANNOUNCE) },
      mtu: this.#mtu ?? null,
      activePairs: this.#pairs.active,
      pairs: this.#pairs.inspect(),
      controlQueue: this.#controlIndex ?? null,
      rxModes: structuredClone(this.#rxModes),
      offloads: featureNames(this.#offloads, VIRTIO_NET_F),
      lastCommandError: this.#control.lastError,
    }
  }

  /** Resets it and closes its eventfds, not the backend. Close its transport first. Idempotent. */
  override close(): void {
    this.#closed = true
    super.close()
    this.#backend.off('fault', this.#onFault)
    this.#backend.off('gone', this.#onGone)
    this.#backend.off('back', this.#onBack)
  }
}

/** Queue 2i receives, queue 2i + 1 transmits. */
function placeOf(index: number): [pair: number, ring: RingName] {
  return [index >> 1, index % 2 === 0 ? 'rx' : 'tx']
}
