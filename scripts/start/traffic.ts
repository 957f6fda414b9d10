// The guest's traffic: DHCP, pings both ways, and iperf3 with a sender or receiver on each vCPU.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { startDhcpServer } from '../guest/dhcp-server.ts'
import { startIperfServer } from '../guest/iperf-server.ts'
import type { Server } from '../guest/server.ts'
import type { StockGuest } from '../guest/stock-guest.ts'
import type { IperfReport, Measured, PingReport } from './measured.ts'

type Guest = Pick<StockGuest, 'run' | 'try'>

const PINGS = 5
const PING = `ping -c ${PINGS} -i 0.1 -w 20`
/** Of pings amid something else: few enough to leave an emulated CPU to what else is done. */
const PACE_S = 0.2
const FIRST_PORT = 5301
/** What iperf3 may take beyond its own time: four of them start at once, on a CPU that may be emulated. */
const IPERF_SLACK_S = 300

/** Runs what follows on that vCPU alone. */
export const onVcpu = (vcpu: number): string => `taskset ${(2 ** vcpu).toString(16)}`

/** What udhcpc says. */
export function parseLease(text: string): Measured['dhcp'] {
  const [, address, server, leaseSeconds] = /lease of (\S+) obtained from (\S+), lease time (\d+)/.exec(text) ?? []
  if (address === undefined || server === undefined) throw new Error(`the guest got no address by DHCP:\n${text}`)
  return { address, server, leaseSeconds: Number(leaseSeconds) }
}

export async function askForAddress(guest: Guest, ifname: string, range: readonly [string, string]) {
  const server = await startDhcpServer({ ifname, range })
  try {
    return parseLease(await guest.run('udhcpc -i eth0 -n -q -f -s /bin/udhcpc.script'))
  } finally {
    await server.stop()
  }
}

/** What busybox's ping says. */
export function parsePing(text: string): PingReport {
  const [, sent, answered] = /(\d+) packets transmitted, (\d+) packets received/.exec(text) ?? []
  if (sent === undefined) throw new Error(`ping said no result:\n${text}`)
  const [, min, avg, max] = /min\/avg\/max = ([\d.]+)\/([\d.]+)\/([\d.]+) ms/.exec(text) ?? []
  const number = (value: string | undefined) => (value === undefined ? null : Number(value))
  return {
    sent: Number(sent),
    answered: Number(answered),
    minMs: number(min),
    avgMs: number(avg),
    maxMs: number(max),
  }
}

export async function pingFromGuest(guest: Guest, vcpu: number, address: string): Promise<PingReport> {
  return parsePing((await guest.try(`${onVcpu(vcpu)} ${PING} ${address}`)).output)
}

/** Has each vCPU ping the host while `operation` runs. @returns what it returns, and how the pings went */
export async function whilePinging<T>(
  guest: Guest,
  { vcpus, address }: { vcpus: number; address: string },
  operation: () => Promise<T>,
): Promise<{ result: T; pings: { sent: number; answered: number } }> {
  const files = Array.from({ length: vcpus }, (_, vcpu) => `/tmp/ping${vcpu}`)
  const one = (file: string, vcpu: number) =>
    `${onVcpu(vcpu)} ping -i ${PACE_S} ${address} > ${file} 2>&1 & pings="$pings $!"`
  await guest.run(`pings=; ${files.map(one).join('; ')}`)
  const result = await operation()
  await guest.try('kill -INT $pings; wait $pings')
  const pings = { sent: 0, answered: 0 }
  for (const file of files) {
    const { sent, answered } = parsePing(await guest.run(`tail -n 3 ${file}`))
    pings.sent += sent
    pings.answered += answered
  }
  return { result, pings }
}

export async function pingFromHost(address: string): Promise<PingReport> {
  const [program = '', ...args] = `busybox ${PING} ${address}`.split(' ')
  try {
    return parsePing((await promisify(execFile)(program, args)).stdout)
  } catch (error) {
    // Not all were answered.
    if (error instanceof Error && 'stdout' in error && error.stdout !== '') return parsePing(String(error.stdout))
    throw error
  }
}

/** Of each iperf3's summary, what arrived. */
export function parseIperf(text: string): number {
  const rate = /([\d.]+) Kbits\/sec.*receiver/.exec(text)?.[1]
  if (rate === undefined) throw new Error(`iperf3 said no result:\n${text}`)
  return Number(rate)
}

/** iperf3 in the guest, with servers in the host: one for each vCPU. */
export class Iperf {
  readonly #guest: Guest
  readonly #address: string
  readonly #vcpus: readonly number[]
  readonly #servers: Server[] = []

  private constructor(guest: Guest, address: string, vcpus: number) {
    this.#guest = guest
    this.#address = address
    this.#vcpus = Array.from({ length: vcpus }, (_, vcpu) => vcpu)
  }

  static async start(guest: Guest, address: string, vcpus: number): Promise<Iperf> {
    const iperf = new Iperf(guest, address, vcpus)
    try {
      for (const vcpu of iperf.#vcpus) iperf.#servers.push(await startIperfServer(address, FIRST_PORT + vcpu))
      return iperf
    } catch (error) {
      await iperf.stop()
      throw error
    }
  }

  #clients(options: string): string {
    const one = (vcpu: number) =>
      `${onVcpu(vcpu)} iperf3 -c ${this.#address} -p ${FIRST_PORT + vcpu} -i 0 -f k ${options} > /tmp/iperf${vcpu} 2>&1 & clients="$clients $!"`
    return `clients=; ${this.#vcpus.map(one).join('; ')}`
  }

  /** Runs for so long, and tells what arrived. */
  async run(seconds: number, way: 'toHost' | 'toGuest'): Promise<IperfReport> {
    const reverse = way === 'toGuest' ? '-R' : ''
    const limit = seconds + IPERF_SLACK_S
    // Each one's own failure is in what it said.
    await this.#guest.try(`${this.#clients(`-t ${seconds} ${reverse}`)}; wait $clients`, limit)
    const kbits: number[] = []
    for (const vcpu of this.#vcpus) kbits.push(parseIperf(await this.#guest.run(`cat /tmp/iperf${vcpu}`)))
    return { seconds, kbits }
  }

  async stop(): Promise<void> {
    for (const server of this.#servers.splice(0)) await server.stop()
  }
}
