// The first two things a guest does on its network: find the host's MAC, and see whether the host answers.

import { formatIp } from '../../address.ts'
import { deadline } from './deadline.ts'
import type { Endpoint } from './endpoint.ts'
import { buildArpRequest, EchoTemplate, echoIdentifier, echoSequence } from './frames.ts'
import { ipv4ToBytes } from './subnet.ts'

export const PINGS = 5
/** The payload of iputils' ping. */
const PING_PAYLOAD = 56
const PING_TIMEOUT_MS = 1000
const ARP_ATTEMPTS = 5
/** RFC 1122 section 2.3.2.1: at most one request a second. */
const ARP_INTERVAL_MS = 1000

export interface PingResult {
  sent: number
  /** Round trips in µs, in the order of the requests; those that were not answered are missing. */
  rttUs: number[]
  /** The pair each reply came back on. */
  receivedOn: number[]
  /** Replies that were not what was sent. */
  corrupt: number
}

/** What `register`'s callback is given, or undefined after `timeoutMs`. Rejects where `signal` aborts. */
async function within<T>(
  timeoutMs: number,
  signal: AbortSignal,
  register: (resolve: (value: T) => void) => void,
): Promise<T | undefined> {
  signal.throwIfAborted()
  const either = deadline(timeoutMs, signal)
  const given = await new Promise<T | undefined>((resolve) => {
    either.addEventListener('abort', () => resolve(undefined), { once: true })
    register(resolve)
  })
  signal.throwIfAborted()
  return given
}

/**
 * Resolves the host's address by ARP, as the endpoint.
 * @throws {ArpError} where no reply came
 */
export async function resolve(endpoint: Endpoint, host: number, signal: AbortSignal): Promise<Uint8Array> {
  const request = buildArpRequest(endpoint.mac, endpoint.address, host)
  try {
    for (let attempt = 0; attempt < ARP_ATTEMPTS; attempt++) {
      const reply = within<Uint8Array>(ARP_INTERVAL_MS, signal, (resolve) => {
        endpoint.arpTaker = (sender, mac) => {
          if (sender === host) resolve(mac)
        }
      })
      const [mac] = await Promise.all([reply, endpoint.send(request, signal)])
      if (mac !== undefined) return mac
    }
  } finally {
    endpoint.arpTaker = undefined
  }
  throw new ArpError(endpoint, host)
}

/** The host did not answer ARP. */
export class ArpError extends Error {
  constructor({ index, tx, rx, address }: Endpoint, host: number) {
    const [asker, asked] = [address, host].map((ip) => formatIp(ipv4ToBytes(ip)))
    tx.reclaim()
    const { available, used } = tx.counters()
    const { frames } = rx.counters()
    super(
      `pair ${index}: nobody answered ${ARP_ATTEMPTS} ARP requests of ${asker} for ${asked}\n` +
        `  Of ${available} frames made available the kernel took ${used}; it sent ${frames} to this pair.\n` +
        '  A firewall or arp_ignore may keep it from answering.',
    )
  }
}

/** Sends echo requests, one after the other, and waits for each reply. */
export async function ping(
  endpoint: Endpoint,
  { host, hostMac }: { host: number; hostMac: Uint8Array },
  signal: AbortSignal,
): Promise<PingResult> {
  const template = new EchoTemplate({
    sourceMac: endpoint.mac,
    destinationMac: hostMac,
    source: endpoint.address,
    destination: host,
    identifier: endpoint.index,
    payloadBytes: PING_PAYLOAD,
  })
  const result: PingResult = { sent: 0, rttUs: [], receivedOn: [], corrupt: 0 }
  try {
    for (let sequence = 0; sequence < PINGS; sequence++) {
      const frame = template.frame.slice()
      template.stamp(frame, 0, sequence)
      const reply = within<[at: bigint, pair: number]>(PING_TIMEOUT_MS, signal, (resolve) => {
        endpoint.echoTaker = (bytes, at, length, { index }) => {
          const now = process.hrtime.bigint()
          if (echoIdentifier(bytes, at) !== template.identifier || echoSequence(bytes, at) !== sequence) return false
          if (template.answeredBy(bytes, at, length)) resolve([now, index])
          else result.corrupt++
          return true
        }
      })
      const sentAt = process.hrtime.bigint()
      await endpoint.send(frame, signal)
      result.sent++
      const answer = await reply
      if (answer === undefined) continue
      result.rttUs.push(Number(answer[0] - sentAt) / 1000)
      result.receivedOn.push(answer[1])
    }
  } finally {
    endpoint.echoTaker = undefined
  }
  return result
}
