// What is told of a guest: its console, and what happens to it.

import { Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import type { VcpuCounters, VcpuEnd } from '../../host/index.ts'
import type { VmEnd } from '../../vmm/index.ts'

export interface NicFacts {
  /** Of its netdev. */
  id: string
  transport: 'pci' | 'mmio'
  ifname: string
  mac: string
  queuePairs: number
}

/** Each is an event of its own. */
export interface Reporter {
  /** What the guest writes to its console goes there. */
  readonly console: Writable
  nic(facts: NicFacts): void
  started(facts: { kernel: string; smp: number; memory: number }): void
  /** A driver, or the device, changed the status of a NIC. */
  status(id: string, status: readonly string[]): void
  /** A NIC needs a reset. */
  fault(id: string, fault: { cause: string; queue: number | undefined; message: string }): void
  ended(end: VmEnd, exitCode: number, vcpus: readonly VcpuCounters[]): void
  failed(error: unknown, exitCode: number): void
}

function describe(end: VcpuEnd): string {
  if (end.why === 'exit') return `${end.exit} (${end.detail})`
  return end.error instanceof Error ? end.error.message : String(end.error)
}

const endings = {
  poweroff: 'the guest switched the machine off',
  reset: 'the guest reset the machine',
  panic: "the guest's kernel panicked",
  stopped: 'left; the machine is gone',
} as const

const sentence = (end: VmEnd): string =>
  end.why === 'failed' ? `processor ${end.vcpu} could not go on: ${describe(end.end)}` : endings[end.why]

/** Waits whenever `write` says, as `stdout.write` does, that its reader is behind. */
function passingOn(stdout: NodeJS.WriteStream, write: (bytes: Uint8Array) => boolean): Writable {
  return new Writable({
    write(bytes: Uint8Array, _encoding, done) {
      if (write(bytes)) done()
      else stdout.once('drain', done)
    },
  })
}

/** The console as it is on `stdout`, and lines on `stderr`. @param terminal whether Ctrl-A is looked for */
export function textReporter(stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream, terminal: boolean): Reporter {
  // In raw mode a line's end does not begin a new line.
  const tell = (line: string) => stderr.write(`vhost-net: ${line}${terminal ? '\r\n' : '\n'}`)
  return {
    console: passingOn(stdout, (bytes) => stdout.write(bytes)),
    nic: ({ id, transport, ifname, mac, queuePairs }) =>
      tell(`${id}: ${mac} on ${ifname}, ${queuePairs} queue ${queuePairs === 1 ? 'pair' : 'pairs'}, over ${transport}`),
    started: ({ kernel }) => tell(`${kernel} starts${terminal ? '; Ctrl-A x leaves it' : ''}`),
    status: () => undefined,
    fault: (id, { message }) => tell(`${id} needs a reset: ${message}`),
    ended: (end) => tell(sentence(end)),
    // Whoever runs the command says it.
    failed: () => undefined,
  }
}

/** One JSON object a line. */
export function jsonReporter(stdout: NodeJS.WriteStream): Reporter {
  // What is written may be cut amid a character.
  const decoder = new StringDecoder('utf8')
  const tell = (event: string, facts: object) =>
    stdout.write(`${JSON.stringify({ event, ms: Math.round(performance.now()), ...facts })}\n`)
  return {
    console: passingOn(stdout, (bytes) => {
      const text = decoder.write(Buffer.from(bytes))
      return text === '' || tell('console', { text })
    }),
    nic: (facts) => tell('nic', facts),
    started: (facts) => tell('started', facts),
    status: (id, status) => tell('status', { id, status }),
    fault: (id, { cause, queue, message }) => tell('fault', { id, cause, queue: queue ?? null, message }),
    ended: (end, exitCode, vcpus) => {
      const vcpu = end.why === 'failed' ? { vcpu: end.vcpu } : {}
      tell('end', { why: end.why, message: sentence(end), exitCode, ...vcpu, vcpus })
    },
    failed: (error, exitCode) => {
      const code = error instanceof Error && 'code' in error ? String(error.code) : null
      tell('error', { code, message: error instanceof Error ? error.message : String(error), exitCode })
    },
  }
}
