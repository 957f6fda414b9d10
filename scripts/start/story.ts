// What is done with the guest of `npm start`, one step after the other, and what each of them shows.

import { cpus, release } from 'node:os'
import { formatIp } from '../../lib/address.ts'
import { tapCounters } from '../../lib/cli/loop/report.ts'
import { addressesBeside, type Cidr, formatCidr, ipv4ToBytes } from '../../lib/cli/loop/subnet.ts'
import type { Link } from '../../lib/host/index.ts'
import type { VirtioNet } from '../../lib/index.ts'
import { guestInterrupts, since } from '../guest/interrupts.ts'
import { CounterReader } from '../guest/queue-counters.ts'
import type { StockGuest } from '../guest/stock-guest.ts'
import { changePairs } from './changes.ts'
import { atRest } from './counters.ts'
import type { Measured, PairsChange, PingReport } from './measured.ts'
import { LEASES } from './network.ts'
import { picturePairs, sendingVcpus } from './pairs.ts'
import type { Progress } from './progress.ts'
import { changeLine, changesEnd, changesHead, dhcpLine, headLines, iperfLine, pingLines, rates } from './text.ts'
import { askForAddress, type Iperf, pingFromGuest, pingFromHost, whilePinging } from './traffic.ts'

export interface Surroundings {
  /** Tells people what was found. */
  tell(...lines: string[]): void
  progress: Progress
  /** Ends it, with everything undone, when it aborts. */
  signal: AbortSignal
}

export interface Booted {
  guest: StockGuest
  /** Of the tap, with the host's address in it. */
  network: Cidr
  bootMs: number
}

const dotted = (address: number): string => formatIp(ipv4ToBytes(address))
const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)

export class Story {
  readonly #booted: Booted
  readonly #surroundings: Surroundings
  readonly #nic: VirtioNet
  readonly #counters: CounterReader
  readonly #faults: string[] = []

  constructor(booted: Booted, surroundings: Surroundings) {
    this.#booted = booted
    this.#surroundings = surroundings
    this.#nic = booted.guest.nics[0]!
    this.#counters = new CounterReader(booted.guest, 'eth0')
    this.#nic.on('fault', ({ message }) => this.#faults.push(message))
  }

  get #guest(): StockGuest {
    return this.#booted.guest
  }

  get #host(): string {
    return dotted(this.#booted.network.address)
  }

  readonly #tap = (): Link => {
    const { ifname } = this.#nic.backend
    const link = this.#guest.netlink.getLink({ ifname })
    if (link === undefined) throw new Error(`somebody deleted ${ifname}`)
    return link
  }

  /** What passed the tap since it was asked last. */
  #pace(): () => string {
    let last = { stats: this.#tap().stats, at: performance.now() }
    return () => {
      const now = { stats: this.#tap().stats, at: performance.now() }
      const text = rates(tapCounters(last.stats, now.stats), now.at - last.at)
      last = now
      return text
    }
  }

  #during<T>(what: string, operation: () => Promise<T>, status?: () => string): Promise<T> {
    this.#surroundings.signal.throwIfAborted()
    return this.#surroundings.progress.during(what, operation, status)
  }

  async about(): Promise<Pick<Measured, 'host' | 'guest' | 'nic'>> {
    const { vm } = this.#guest
    // What the kernel says from now on would be amid what commands say.
    await this.#guest.run('dmesg -n 1')
    const kernel = (await this.#guest.run('uname -r')).trim()
    const { ifname, mtu } = this.#tap()
    const { memory, vcpus } = vm.inspect()
    const about = {
      host: { kernel: release(), cpu: cpus()[0]?.model ?? '', cpus: cpus().length, lab: process.env.LAB === '1' },
      guest: { kernel, image: 'vmlinuz', vcpus: vcpus.length, memory, bootMs: this.#booted.bootMs },
      nic: {
        ifname,
        mac: this.#nic.inspect().mac,
        address: formatCidr(this.#booted.network),
        mtu,
        queuePairs: this.#nic.queuePairs,
      },
    }
    this.#surroundings.tell(...headLines(about), '')
    return about
  }

  async dhcp(): Promise<Measured['dhcp']> {
    const addresses = addressesBeside(this.#booted.network, LEASES).map(dotted)
    const range = [addresses[0]!, addresses.at(-1)!] as const
    const lease = await this.#during('the guest asks for its address', () =>
      askForAddress(this.#guest, this.#nic.backend.ifname, range),
    )
    this.#surroundings.tell(dhcpLine(lease))
    return lease
  }

  async ping(address: string): Promise<Measured['ping']> {
    const report = await this.#during('ping both ways', async () => {
      const fromGuest: PingReport[] = []
      for (let vcpu = 0; vcpu < this.#nic.queuePairs; vcpu++) {
        fromGuest.push(await pingFromGuest(this.#guest, vcpu, this.#host))
      }
      return { fromGuest, fromHost: await pingFromHost(address) }
    })
    this.#surroundings.tell(...pingLines(report), '')
    return report
  }

  /** From one pair to all. */
  async changes(): Promise<Measured['changes']> {
    const vcpus = this.#nic.queuePairs
    const change = async () => {
      const steps: PairsChange[] = []
      for (let pairs = 1; pairs <= vcpus; pairs++) {
        const step = await changePairs(this.#guest, this.#counters, this.#nic, () => this.#tap().tun!, pairs)
        this.#surroundings.tell(changeLine(step))
        steps.push(step)
      }
      return steps
    }
    this.#surroundings.tell(...changesHead())
    const { result: steps, pings } = await this.#during(
      'queue pairs come and go while each vCPU pings',
      () => whilePinging(this.#guest, { vcpus, address: this.#host }, change),
      this.#pace(),
    )
    this.#surroundings.tell(changesEnd(pings), '')
    return { steps, pings }
  }

  #exits(): Measured['exits'] {
    const counters = this.#guest.vm.counters()
    return {
      registers: sum(counters.map(({ memoryAccesses }) => memoryAccesses)),
      asked: sum(counters.map(({ asked }) => asked)),
    }
  }

  /** Bulk traffic, after which the interrupts and exits that it took are known. */
  async bulk(iperf: Iperf, seconds: number) {
    const interruptsBefore = await guestInterrupts(this.#guest, 'virtio0-')
    const exitsBefore = this.#exits()
    const run = async (way: 'toHost' | 'toGuest', words: string) => {
      const report = await this.#during(`iperf3 ${words}`, () => iperf.run(seconds, way), this.#pace())
      this.#surroundings.tell(iperfLine(words, report))
      return report
    }
    const toHost = await run('toHost', 'guest → host')
    const toGuest = await run('toGuest', 'host → guest')
    this.#surroundings.tell('')
    const exits = this.#exits()
    return {
      iperf: { toHost, toGuest },
      exits: { registers: exits.registers - exitsBefore.registers, asked: exits.asked - exitsBefore.asked },
      interrupts: since(interruptsBefore, await guestInterrupts(this.#guest, 'virtio0-')),
    }
  }

  /** Counts where nothing moves, and then pulls the cable. */
  async count({ interrupts }: Pick<Awaited<ReturnType<Story['bulk']>>, 'interrupts'>) {
    const rest = () => atRest(this.#counters, () => this.#tap().stats)
    const { guest: counters, tap } = await this.#during('the packets come to rest, and are counted', rest)
    const vcpus = await sendingVcpus(this.#guest, this.#nic.queuePairs)
    const features = this.#nic.explainFeatures()
    const pairs = picturePairs(this.#nic, { counters, interrupts, vcpus })
    return { pairs, features, tap, faults: this.#faults }
  }
}
