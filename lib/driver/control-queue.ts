// The driver's end of the control virtqueue: commands, each of which the device answers (virtio 1.x section 5.1.6.5).

import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import {
  VIRTIO_NET_CTRL,
  VIRTIO_NET_CTRL_ANNOUNCE_ACK,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_OK,
} from '../abi/virtio-net-control.ts'
import { parseMac } from '../address.ts'
import { DeviceError, FeatureNegotiationError, InvalidOptionError, StateError } from '../errors.ts'
import { EventFd } from '../event/index.ts'
import type { GuestMemory } from '../memory/index.ts'
import { checkBigInt, checkInteger } from '../options.ts'
import { featureBits, hasFeature } from '../virtio/features.ts'
import { COMMAND_MAX, CommandRing } from './command-ring.ts'
import { GUEST_OFFLOADS } from './features.ts'
import type { QueuePlace } from './probed-device.ts'
import { until } from './until.ts'

export interface ControlQueueOptions {
  memory: GuestMemory
  /** Guest-physical address of {@link COMMAND_RING_SIZE} bytes, aligned to 16. */
  address: number
  /** The features agreed on. */
  features: bigint
}

const RX_MODES = {
  promisc: ['VIRTIO_NET_F_CTRL_RX', VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_PROMISC],
  allmulti: ['VIRTIO_NET_F_CTRL_RX', VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_ALLMULTI],
  alluni: ['VIRTIO_NET_F_CTRL_RX_EXTRA', VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_ALLUNI],
  nomulti: ['VIRTIO_NET_F_CTRL_RX_EXTRA', VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_NOMULTI],
  nouni: ['VIRTIO_NET_F_CTRL_RX_EXTRA', VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_NOUNI],
  nobcast: ['VIRTIO_NET_F_CTRL_RX_EXTRA', VIRTIO_NET_CTRL_RX.VIRTIO_NET_CTRL_RX_NOBCAST],
} as const

/** What is received besides frames to the MAC address, broadcast and the table's; `no…` is what is not. */
export type RxMode = keyof typeof RX_MODES

const le16 = (value: number): number[] => [value & 0xff, value >> 8]
const le32 = (value: number): number[] => [...le16(value & 0xffff), ...le16(value >>> 16)]

/**
 * Commands go one after the other, in the order of the calls; each promise resolves when the device has carried its
 * command out. All reject with `ERR_FEATURE_MISSING` before anything is sent where the feature was not agreed on, with
 * `ERR_COMMAND_REFUSED` where the device says no, and with `ERR_CLOSED` once the queue is closed. Answers are looked for,
 * as Linux does, and not waited for by an interrupt: commands are rare, and done at once.
 */
export class ControlQueue {
  /** Signalled to the device. */
  readonly kick: EventFd
  readonly #features: bigint
  readonly #ring: CommandRing
  #last: Promise<unknown> = Promise.resolve()
  /** Why nothing more can be sent. */
  #over: unknown

  /**
   * @throws {GuestMemoryError} `ERR_GPA_RANGE`
   * @throws {SystemCallError} `EMFILE`
   */
  constructor({ memory, address, features }: ControlQueueOptions) {
    this.#features = features
    this.#ring = new CommandRing(memory, address, hasFeature(features, VIRTIO_F.VIRTIO_RING_F_EVENT_IDX))
    this.kick = EventFd.create('the kick of the control queue')
  }

  /** Where the ring is. */
  get place(): QueuePlace {
    return this.#ring.place
  }

  /** Switches a receive mode. */
  async setRxMode(mode: RxMode, on: boolean): Promise<void> {
    const [feature, command] = RX_MODES[mode]
    await this.#command(feature, VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_RX, command, [on ? 1 : 0])
  }

  /** Says which unicast and multicast addresses are received besides its own; together at most about 670. */
  async setMacTable(unicast: readonly string[], multicast: readonly string[]): Promise<void> {
    const list = (macs: readonly string[], option: string): number[] => [
      ...le32(macs.length),
      ...macs.flatMap((mac, i) => [...parseMac(mac, `${option}[${i}]`)]),
    ]
    const data = [...list(unicast, 'unicast'), ...list(multicast, 'multicast')]
    const { VIRTIO_NET_CTRL_MAC_TABLE_SET: command } = VIRTIO_NET_CTRL_MAC
    await this.#command('VIRTIO_NET_F_CTRL_RX', VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_MAC, command, data)
  }

  /** Changes the device's MAC address. */
  async setMac(mac: string): Promise<void> {
    const { VIRTIO_NET_CTRL_MAC_ADDR_SET: command } = VIRTIO_NET_CTRL_MAC
    const data = [...parseMac(mac, 'mac')]
    await this.#command('VIRTIO_NET_F_CTRL_MAC_ADDR', VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_MAC, command, data)
  }

  /** Says how many queue pairs are used, which must be enabled; 1 after a reset. */
  async setQueuePairs(pairs: number): Promise<void> {
    const data = le16(checkInteger(pairs, 'pairs', 1, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX))
    await this.#command('VIRTIO_NET_F_MQ', VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, data)
  }

  /** Says which offloads of receiving are on from now on, as a set of GUEST_* feature bits; all agreed on after a reset. */
  async setGuestOffloads(offloads: bigint): Promise<void> {
    const extra = checkBigInt(offloads, 'offloads') & ~(this.#features & GUEST_OFFLOADS)
    if (extra !== 0n) throw missing(`to switch offload bits ${featureBits(extra).join(', ')}`)
    const data = [...le32(Number(offloads & 0xffff_ffffn)), ...le32(Number(offloads >> 32n))]
    await this.#command(
      'VIRTIO_NET_F_CTRL_GUEST_OFFLOADS',
      VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_GUEST_OFFLOADS,
      VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
      data,
    )
  }

  /** Says that peers were told where this device is now. */
  async acknowledgeAnnounce(): Promise<void> {
    await this.#command(
      'VIRTIO_NET_F_GUEST_ANNOUNCE',
      VIRTIO_NET_CTRL.VIRTIO_NET_CTRL_ANNOUNCE,
      VIRTIO_NET_CTRL_ANNOUNCE_ACK,
      [],
    )
  }

  async #command(
    feature: keyof typeof VIRTIO_NET_F,
    commandClass: number,
    command: number,
    data: readonly number[],
  ): Promise<void> {
    if (!hasFeature(this.#features, VIRTIO_NET_F[feature])) throw missing(`${feature} (${VIRTIO_NET_F[feature]})`)
    const bytes = Uint8Array.of(commandClass, command, ...data)
    if (bytes.length > COMMAND_MAX) {
      const problem = `a command of ${bytes.length} bytes, the most is ${COMMAND_MAX}`
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'addresses', problem)
    }
    const answered = this.#last.then(() => this.#exchange(bytes))
    this.#last = answered.catch(() => undefined)
    const answer = await answered
    if (answer === VIRTIO_NET_OK) return
    throw new DeviceError('ERR_COMMAND_REFUSED', `the device refused command ${command} of class ${commandClass}`, {
      context: { class: commandClass, command, answer },
    })
  }

  async #exchange(command: Uint8Array): Promise<number> {
    if (this.#over !== undefined) throw this.#over
    if (this.#ring.send(command)) this.kick.signal()
    let answer: number | undefined
    try {
      await until(() => {
        if (this.#over !== undefined) throw this.#over
        answer = this.#ring.take()
        return answer !== undefined
      })
    } catch (error) {
      // The command is with the device still: there is no room for another.
      this.fail(error)
      throw error
    }
    return answer!
  }

  /** Nothing more can be sent; what is on its way is not waited for. The first reason stays. */
  fail(reason: unknown): void {
    this.#over ??= reason
  }

  /** @internal For the NIC, whose device was reset. Idempotent. */
  close(): void {
    this.fail(new StateError('ERR_CLOSED', 'the control queue was closed'))
    this.kick.close()
  }
}

function missing(what: string): FeatureNegotiationError {
  return new FeatureNegotiationError('ERR_FEATURE_MISSING', `the command needs ${what}, which was not agreed on`, {
    hint: 'It is agreed on where the device offers it.',
  })
}
