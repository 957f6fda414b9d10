// The door: a NIC's end in this host plugged into a network, whichever.

import { InvalidOptionError } from '../errors.ts'
import { checkObject, type Unchecked } from '../options.ts'
import { Applied } from './apply.ts'
import { type BridgeOptions, planBridge } from './bridge.ts'
import { type OvsOptions, planOvs } from './ovs.ts'
import { Plugged } from './plugged.ts'
import { checkLink, type PluggedLink } from './plugged-link.ts'
import type { Step } from './step.ts'

/** A network: one of them. */
export type Where = { readonly bridge: BridgeOptions } | { readonly ovs: OvsOptions }

export type NetworkKind = Where extends infer W ? (W extends unknown ? keyof W : never) : never

export interface PlugOptions {
  /** Changes nothing, and resolves to what would be done. Default false. */
  readonly dryRun?: boolean
  /** Ends it where it aborts between two steps, with everything taken back. */
  readonly signal?: AbortSignal
}

type Planner = (link: PluggedLink, options: never) => Promise<Step[]>

const PLANNERS: Readonly<Record<NetworkKind, Planner>> = { bridge: planBridge, ovs: planOvs }

export const NETWORK_KINDS = Object.keys(PLANNERS) as NetworkKind[]

/**
 * Plugs a link, a tap in most cases, into a network. What is so already stays and is not touched; what fails half-way is
 * taken back. The link itself may be made by the plan: a macvtap is.
 *
 * @example
 * await using plugged = await plug({ ifname: 'vnet0', mac }, { ovs: { bridge: 'br-int', tag: 7 } })
 * @throws {InvalidOptionError} `ERR_OPTION_*` before anything is changed, with the nearest right word for an unknown one
 * @throws {PlugError} with the code of what failed, such as `ERR_LINK_ABSENT` or `EPERM`, and what became of the steps before
 */
export function plug(link: PluggedLink, where: Where, options: PlugOptions & { dryRun: true }): Promise<string[]>
export function plug(link: PluggedLink, where: Where, options?: PlugOptions & { dryRun?: false }): Promise<Plugged>
export async function plug(link: PluggedLink, where: Where, options: PlugOptions = {}): Promise<string[] | Plugged> {
  const { dryRun = false, signal } = checkObject(options, ['dryRun', 'signal']) as PlugOptions
  const steps = await planPlug(link, where)
  if (dryRun) return steps.map(({ text }) => text)
  return new Plugged(link.ifname, steps, await Applied.of(steps, signal))
}

/** The steps that {@link plug} would take; changes nothing. @throws as it does before anything is changed */
export async function planPlug(link: PluggedLink, where: Where): Promise<Step[]> {
  checkLink(link)
  const { kind, options } = checkWhere(where)
  return await PLANNERS[kind](link, options as never)
}

/** Which network it is. @throws {InvalidOptionError} `ERR_OPTION_*`; what is asked of the network is checked by its own */
export function checkWhere(where: unknown): { kind: NetworkKind; options: Unchecked } {
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
  return { kind, options: given[kind] as Unchecked }
}
