// One run of `vhost-net loop`: up, ARP, ping, bulk, to rest, counted, down.

import { machine, release, type as sysname, version } from 'node:os'
import { formatIp, formatMac } from '../../address.ts'
import type { Link } from '../../host/index.ts'
import { bulk, EchoFlow } from './bulk.ts'
import type { Endpoint } from './endpoint.ts'
import { Endpoints } from './endpoints.ts'
import type { LoopOptions } from './options.ts'
import { type PingResult, ping, resolve } from './ping.ts'
import { quiesce } from './quiesce.ts'
import {
  type LoopReport,
  type Measured,
  type PingReport,
  pingReport,
  report,
  ringReport,
  type TapReport,
  tapCounters,
} from './report.ts'
import { Rig } from './rig.ts'
import { formatCidr, ipv4ToBytes } from './subnet.ts'

/** What is told while it runs. */
export interface Observer {
  up(facts: Pick<Measured, 'kernel' | 'tap' | 'features'> & { pairs: number }): void
  pinged(pair: { index: number; address: string; ping: PingReport }): void
  /** Runs the bulk traffic. */
  bulk<T>(endpoints: Endpoints, operation: () => Promise<T>): Promise<T>
}

interface Introduced {
  endpoint: Endpoint
  hostMac: Uint8Array
  ping: PingResult
}

const dotted = (address: number): string => formatIp(ipv4ToBytes(address))

function tapReport(rig: Rig, link: Link): TapReport {
  const { ifname, mac = '', mtu, stats } = link
  return { ifname, mac, address: formatCidr(rig.address), mtu, counters: tapCounters(rig.statsBefore, stats) }
}

async function introduce(
  endpoints: Endpoints,
  host: number,
  observer: Observer,
  signal: AbortSignal,
): Promise<Introduced[]> {
  const introduced: Introduced[] = []
  // One pair after the other: a round trip is of interest when nothing else is on its way.
  for (const endpoint of endpoints.all) {
    const hostMac = await resolve(endpoint, host, signal)
    const result = await ping(endpoint, { host, hostMac }, signal)
    introduced.push({ endpoint, hostMac, ping: result })
    const { index, address } = endpoint
    observer.pinged({ index, address: dotted(address), ping: pingReport(result) })
  }
  return introduced
}

async function measure(
  rig: Rig,
  endpoints: Endpoints,
  { seconds, payloadBytes }: LoopOptions,
  observer: Observer,
  signal: AbortSignal,
): Promise<LoopReport> {
  const kernel = { sysname: sysname(), release: release(), version: version(), machine: machine() }
  const features = [...rig.features]
  observer.up({ kernel, features, tap: tapReport(rig, rig.link()), pairs: endpoints.all.length })

  const host = rig.address.address
  const introduced = await introduce(endpoints, host, observer, signal)
  const flows = introduced.map(({ endpoint, hostMac }) => new EchoFlow(endpoint, { host, hostMac, payloadBytes }))
  const frames = () => ({ tx: endpoints.sent, rx: endpoints.received })
  const before = frames()
  const milliseconds = await observer.bulk(endpoints, () => bulk(flows, seconds, signal))
  const after = frames()
  const { bases, failures } = await quiesce(rig, endpoints, flows, signal)

  const pairs = introduced.map(({ endpoint, hostMac, ping }, index) => {
    const { mac, address, tx, rx, counts } = endpoint
    const { sent, answered, corrupt, unexpected, lost } = flows[index] as EchoFlow
    const base = bases[index] as { rx: number; tx: number }
    const calls = rig.calls(index)
    return {
      index,
      mac: formatMac(mac),
      address: dotted(address),
      hostMac: formatMac(hostMac),
      ping: pingReport(ping),
      bulk: { sent, answered, corrupt, unexpected, lost },
      tx: ringReport({ ...tx.counters(), calls: calls.tx }, base.tx),
      rx: ringReport({ ...rx.counters(), calls: calls.rx }, base.rx),
      received: { ...counts },
    }
  })
  return report({
    kernel,
    features,
    tap: tapReport(rig, rig.link()),
    bulk: { milliseconds, payloadBytes, txFrames: after.tx - before.tx, rxFrames: after.rx - before.rx },
    pairs,
    faults: rig.faults,
    unsettled: failures,
  })
}

/**
 * Brings a tap with queue pairs up, moves frames, and takes it all down again, however it ends.
 * @param scope ends it, with everything undone, when it aborts.
 */
export async function runLoop(options: LoopOptions, observer: Observer, scope: AbortController): Promise<LoopReport> {
  const rig = await Rig.open(options)
  try {
    const endpoints = new Endpoints(rig.endpoints, scope)
    try {
      scope.signal.throwIfAborted()
      return await measure(rig, endpoints, options, observer, scope.signal)
    } finally {
      await endpoints.stop()
    }
  } finally {
    await rig.close()
  }
}
