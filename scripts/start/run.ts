// One run of `npm start`: a guest boots, has traffic, comes to rest, is counted, and everything is taken down again.

import { formatIp } from '../../lib/address.ts'
import { type Cidr, ipv4ToBytes } from '../../lib/cli/loop/subnet.ts'
import { StockGuest } from '../guest/stock-guest.ts'
import type { Measured } from './measured.ts'
import { chooseNetwork } from './network.ts'
import type { StartOptions } from './options.ts'
import { report, type StartReport } from './report.ts'
import { Story, type Surroundings } from './story.ts'
import { Iperf } from './traffic.ts'

const VCPUS = 4
/** It unpacks itself: moving itself afterwards takes longer. IPv6 speaks where nobody asked. */
const APPEND = 'nokaslr ipv6.disable=1'
/** On a host whose CPU is emulated, and busy. */
const LIMITS = { bootSeconds: 600, commandSeconds: 300 }
/** As much of the console's last line as fits behind the time. */
const TAIL = 70

const hostOf = ({ address }: Cidr): string => formatIp(ipv4ToBytes(address))

/** What the guest says while it boots. */
class ConsoleTail {
  #text = ''

  hear(bytes: Uint8Array): void {
    this.#text = (this.#text + Buffer.from(bytes).toString('latin1')).slice(-1000)
  }

  get last(): string {
    const lines = this.#text.split('\n').map((line) => line.trim())
    const last = lines.findLast((line) => line !== '')
    return last === undefined ? 'its console is silent so far' : `it said: ${last.slice(0, TAIL)}`
  }
}

async function boot(
  { kernel, ifname }: StartOptions,
  network: Cidr,
  { progress, signal }: Surroundings,
): Promise<{ guest: StockGuest; bootMs: number }> {
  const began = performance.now()
  const tail = new ConsoleTail()
  const booting = () =>
    StockGuest.boot({
      kernel,
      image: 'vmlinuz',
      smp: VCPUS,
      append: APPEND,
      ...LIMITS,
      explain: false,
      nics: [{ ifname, address: hostOf(network), queuePairs: VCPUS }],
      hear: (bytes) => tail.hear(bytes),
      signal,
    })
  const guest = await progress.during(`Debian's Linux ${kernel} boots on ${VCPUS} vCPUs`, booting, () => tail.last)
  return { guest, bootMs: performance.now() - began }
}

async function measure(story: Story, guest: StockGuest, host: string, seconds: number): Promise<Measured> {
  const about = await story.about()
  const dhcp = await story.dhcp()
  const ping = await story.ping(dhcp.address)
  const changes = await story.changes()
  const iperf = await Iperf.start(guest, host, VCPUS)
  try {
    const { interrupts, ...bulk } = await story.bulk(iperf, seconds)
    return { ...about, dhcp, ping, changes, ...bulk, ...(await story.count({ interrupts })) }
  } finally {
    await iperf.stop()
  }
}

/** @throws what any step throws, and the reason of an abortion, after everything was undone */
export async function runStart(options: StartOptions, surroundings: Surroundings): Promise<StartReport> {
  const network = chooseNetwork(options.ifname)
  const { guest, bootMs } = await boot(options, network, surroundings)
  try {
    const story = new Story({ guest, network, bootMs }, surroundings)
    return report(await measure(story, guest, hostOf(network), options.seconds))
  } catch (error) {
    // What waited for the guest says that the guest is gone.
    surroundings.signal.throwIfAborted()
    throw error
  } finally {
    guest.close()
  }
}
