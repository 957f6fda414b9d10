// The door: a NIC's end in this host plugged into a network, whichever.

import { InvalidOptionError } from '../errors.ts'
import { checkObject, type Unchecked } from '../options.ts'
import { Applied } from './apply.ts'
import { type BandwidthOptions, checkBandwidthOptions, planBandwidth } from './bandwidth.ts'
import { type BridgeOptions, planBridge } from './bridge.ts'
import { type MacvtapPlugOptions, planMacvtap } from './macvtap.ts'
import { type OvsOptions, planOvs } from './ovs.ts'
import { Plugged } from './plugged.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import { planRoute, type RouteOptions } from './route.ts'
import type { Step } from './step.ts'

/** A network: one of them. */
export type Where =
  | { readonly bridge: BridgeOptions }
  | { readonly ovs: OvsOptions }
  | { readonly macvtap: MacvtapPlugOptions }
  | { readonly route: RouteOptions }

export type NetworkKind = Where extends infer W ? (W extends unknown ? keyof W : never) : never

export interface PlugOptions {
  /**
   * What may go through the link each second: by traffic control, in a Linux bridge and where the host routes. Open vSwitch
   * limits its ports itself (`ingressPolicingRate`), and a macvtap is limited on the link below.
   */
  readonly bandwidth?: BandwidthOptions | undefined
  /** Changes nothing, and resolves to what would be done. Default false. */
  readonly dryRun?: boolean
  /** Ends it where it aborts between two steps, with everything taken back. */
  readonly signal?: AbortSignal
}

type Planner = (link: PluggedLink, options: never) => Promise<Step[]>

const PLANNERS: Readonly<Record<NetworkKind, Planner>> = {
  bridge: planBridge,
  ovs: planOvs,
  macvtap: planMacvtap,
  route: planRoute,
}

export const NETWORK_KINDS = Object.keys(PLANNERS) as NetworkKind[]

/**
 * Plugs a link, a tap in most cases, into a network. What is so already stays and is not touched; what fails half-way is
 * taken back.
 *
 * A tap is there before: open its NIC, plug it in, and unplug it before the NIC is closed. A macvtap is the other way round:
 * it is made here, its NIC is opened over it (`backend: { macvtap: { ifname } }`) with the same address, and is closed before
 * the macvtap is unplugged, which deletes it.
 *
 * @example
 * await using plugged = await plug({ ifname: 'vnet0', mac }, { ovs: { bridge: 'br-int', tag: 7 } })
 * @throws {InvalidOptionError} `ERR_OPTION_*` before anything is changed, with the nearest right word for an unknown one
 * @throws {PlugError} with the code of what failed, such as `ERR_LINK_ABSENT` or `EPERM`, and what became of the steps before
 */
export function plug(link: PluggedLink, where: Where, options: PlugOptions & { dryRun: true }): Promise<string[]>
export function plug(link: PluggedLink, where: Where, options?: PlugOptions & { dryRun?: false }): Promise<Plugged>
export async function plug(link: PluggedLink, where: Where, options: PlugOptions = {}): Promise<string[] | Plugged> {
  const { bandwidth, dryRun = false, signal } = checkObject(options, ['bandwidth', 'dryRun', 'signal']) as PlugOptions
  const steps = await planPlug(link, where, bandwidth)
  if (dryRun) return steps.map(({ text }) => text)
  return new Plugged(link.ifname, steps, await Applied.of(steps, signal))
}

/** The steps that {@link plug} would take; changes nothing. @throws as it does before anything is changed */
export async function planPlug(link: PluggedLink, where: Where, bandwidth?: BandwidthOptions): Promise<Step[]> {
  checkLink(link)
  const { kind, options } = checkWhere(where, bandwidth)
  const steps = await PLANNERS[kind](link, options as never)
  return bandwidth === undefined ? steps : [...steps, ...(await planBandwidth(link, bandwidth))]
}

/**
 * Which network it is; and, if its traffic is to be limited, that it can be.
 * @throws {InvalidOptionError} `ERR_OPTION_*`; what is asked of the network is checked by its own
 */
export function checkWhere(where: unknown, bandwidth?: unknown): { kind: NetworkKind; options: Unchecked } {
  const given = checkObject(where, NETWORK_KINDS, 'where')
  const kinds = NETWORK_KINDS.filter((kind) => given[kind] !== undefined)
  const [kind, other] = kinds
  if (kind === undefined) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'where', `is none of ${NETWORK_KINDS.join(', ')}`)
  }
  if (other !== undefined) {
    throw new InvalidOptionError(
      'ERR_OPTION_CONFLICT',
      'where',
      `is both ${kind} and ${other}: a link is in one network`,
    )
  }
  if (bandwidth !== undefined) checkLimits(kind, checkBandwidthOptions(bandwidth))
  return { kind, options: given[kind] as Unchecked }
}

const KBIT_PER_KILOBYTE = 8

/** Where traffic control on the link is not the way, what is. */
function checkLimits(kind: NetworkKind, { inbound, outbound }: BandwidthOptions): void {
  const refused = (problem: string, hint: string): InvalidOptionError =>
    new InvalidOptionError('ERR_OPTION_CONFLICT', 'bandwidth', problem, { hint })
  if (kind === 'macvtap') {
    throw refused('no queue of a macvtap holds what goes to its guest', 'Limit the link below, or be on a bridge.')
  }
  if (kind !== 'ovs') return
  const ways = [
    outbound && `from the guest: { ovs: { ingressPolicingRate: ${KBIT_PER_KILOBYTE * outbound.average} } }, in kbit/s`,
    inbound && 'to the guest: its table QoS, ovs-vswitchd.conf.db(5)',
  ]
  const hint = `Have the switch limit what goes ${ways.filter(Boolean).join('; ')}.`
  throw refused('Open vSwitch clears away what limits its ports by traffic control', hint)
}
