// A tap that somebody else made: whether it fits, and how it is put back as it was.

import { IFF, TAP_MAX_QUEUES } from '../../abi/tun.ts'
import { InvalidOptionError, SystemCallError } from '../../errors.ts'
import { ethtoolFeatures } from '../../host/ethtool.ts'
import { readKernelFile } from '../../host/kernel-file.ts'
import { type Link, type LinkKey, RtNetlink } from '../../host/rtnetlink.ts'
import { Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'
import { TapSettings } from './tap-settings.ts'

/** The device of this name or index in this process's network namespace. */
export function findLink(key: LinkKey): Link | undefined {
  const netlink = RtNetlink.open()
  try {
    return netlink.getLink(key)
  } finally {
    netlink.close()
  }
}

/** A tap that was there before us. */
export class ExistingTap {
  readonly ifname: string
  /** Whether its queues must be opened as those of a multi-queue tap. */
  readonly multiQueue: boolean
  /** Whether it was made with IFF_BACKPRESSURE. */
  readonly backpressure: boolean
  readonly #index: number
  readonly #flags: number
  #attached = false
  #settings: TapSettings | undefined

  private constructor(link: Link, flags: number) {
    this.ifname = link.ifname
    this.#index = link.index
    this.#flags = flags
    this.multiQueue = (flags & IFF.IFF_MULTI_QUEUE) !== 0
    this.backpressure = (flags & IFF.IFF_BACKPRESSURE) !== 0
  }

  /**
   * The tap of this name, or undefined where there is no such device; opens nothing.
   * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT` where the device cannot serve that many queue pairs
   */
  static find(ifname: string, queuePairs: number): ExistingTap | undefined {
    const link = findLink({ ifname })
    if (link === undefined) return undefined
    const refuse = (problem: string, hint: string) => {
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'tap.ifname', `'${ifname}' ${problem}`, {
        hint,
        context: { ifname, queuePairs },
      })
    }
    const { tun } = link
    if (tun === undefined) {
      const isMacvtap = link.kind === 'macvtap'
      const hint = isMacvtap ? `Open it as { macvtap: { ifname: '${ifname}' } }.` : 'Choose another name.'
      return refuse(`is a ${link.kind ?? 'network device'}, not a tap`, hint)
    }
    if (tun.type !== 'tap') {
      return refuse('is a tun device, not a tap', `Recreate it: ip tuntap add dev ${ifname} mode tap`)
    }
    if (queuePairs > 1 && !tun.multi_queue) {
      return refuse(
        `has a single queue, ${queuePairs} queue pairs were asked for`,
        `Recreate it: ip tuntap add dev ${ifname} mode tap multi_queue vnet_hdr; or ask for queuePairs: 1.`,
      )
    }
    if (!tun.multi_queue && isAttached(link)) {
      return refuse('is in use: another process is attached to its only queue', 'Stop that process first.')
    }
    const attached = tun.multi_queue ? (tun.numqueues ?? 0) + (tun.numdisabled ?? 0) : 0
    if (attached + queuePairs > TAP_MAX_QUEUES) {
      return refuse(`has ${attached} queues in use of at most ${TAP_MAX_QUEUES}`, 'Ask for fewer queue pairs.')
    }
    if (attached > 0 && (!tun.vnet_hdr || tun.pi)) {
      return refuse(
        `is in use ${tun.pi ? 'with packet information' : 'without vnet_hdr'}`,
        'Stop what is attached to it: the flags of a tap change only while nothing is.',
      )
    }
    return new ExistingTap(link, flagsOf(link))
  }

  /** Notes what its first queue of ours shows. Attaching changed the flags; nothing else is changed yet. */
  remember(queue: Tap): TapSettings {
    this.#attached = true
    this.#settings = TapSettings.of(queue, ethtoolFeatures(this.ifname))
    return this.#settings
  }

  /**
   * Gives it back its flags, header size and offloads; after our last queue was closed, since a tap takes
   * its flags from whoever attaches first. It is found by its index, since it may have another name by now; where it is
   * gone, nothing is done.
   */
  restore(): void {
    const settings = this.#settings
    if (!this.#attached) return
    const link = findLink({ index: this.#index })
    if (link?.tun === undefined) return
    const undo = new Teardown()
    const queue = undo.own(Tap.attach(link.ifname, this.#flags))
    undo.add(() => settings?.putBack(queue))
    undo.run()
  }
}

// A tap has a carrier while a queue is attached to it (tun_net_open, tun_detach in drivers/net/tun.c); one that is down
// does not show it, and answers TUNSETIFF with EBUSY.
function isAttached(link: Link): boolean {
  return link.up && link.lowerUp
}

// Netlink does not tell IFF_NAPI, IFF_NAPI_FRAGS and IFF_BACKPRESSURE, sysfs does; but sysfs may be that of another network namespace.
function flagsOf({ ifname, index, tun }: Link): number {
  const read = (name: string): number => Number(readKernelFile(`/sys/class/net/${ifname}/${name}`))
  try {
    if (read('ifindex') === index) return read('tun_flags') & ~IFF.IFF_PERSIST
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === 'ENOENT')) throw error
  }
  return (
    IFF.IFF_TAP |
    (tun?.pi ? 0 : IFF.IFF_NO_PI) |
    (tun?.vnet_hdr ? IFF.IFF_VNET_HDR : 0) |
    (tun?.multi_queue ? IFF.IFF_MULTI_QUEUE : 0)
  )
}
