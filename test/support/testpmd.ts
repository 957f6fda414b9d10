// DPDK's testpmd in a stock guest: a driver for virtio devices in the guest's userspace, and none of Linux's.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { GuestExtras } from '../../scripts/guest/initramfs.ts'
import type { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { type Dpdk, dpdkDirectory } from '../../scripts/test/dpdk.ts'

const DIRECTORY = '/dpdk'
const PROMPT = /^testpmd> $/
/** Of 2 MiB each. */
const HUGE_PAGES = 32

/** What a guest needs for it. It has its own C library: the guest's other programs are the host's. */
export function testpmdExtras({ files }: Dpdk): GuestExtras {
  const contents = files.map((name): [string, Buffer] => [
    `${DIRECTORY}/${name}`,
    readFileSync(path.join(dpdkDirectory, name)),
  ])
  return { modules: ['uio_pci_generic'], files: Object.fromEntries(contents) }
}

/** Takes a PCI device from the driver that it has, and offers it to another one; without a name, to whichever wants it. */
export async function giveTo(guest: StockGuest, address: string, driver = ''): Promise<void> {
  const device = `/sys/bus/pci/devices/${address}`
  await guest.run(
    `echo ${address} > ${device}/driver/unbind && echo ${driver} > ${device}/driver_override && echo ${address} > /sys/bus/pci/drivers_probe && ls ${device}/driver`,
  )
}

export interface TestpmdOptions {
  /** Of the device on the PCI bus. */
  address: string
  queuePairs: number
  forwardMode: string
}

export class Testpmd {
  readonly #guest: StockGuest

  private constructor(guest: StockGuest) {
    this.#guest = guest
  }

  /** It has probed and started its port when this resolves, and does not forward yet. */
  static async start(guest: StockGuest, dpdk: Dpdk, options: TestpmdOptions): Promise<Testpmd> {
    const { address, queuePairs, forwardMode } = options
    // It takes no plugins from below a directory that anyone may write to, which a first root is to begin with.
    await guest.run(`echo ${HUGE_PAGES} > /proc/sys/vm/nr_hugepages; mkdir -p /var/run; chmod 755 /`)
    const linker = `${DIRECTORY}/${dpdk.linker} --library-path ${DIRECTORY} ${DIRECTORY}/${dpdk.program}`
    const plugins = dpdk.plugins.map((name) => `-d ${DIRECTORY}/${name}`).join(' ')
    // One logical core talks and one forwards. Both are the guest's only processor.
    const environment = `${plugins} --lcores 0@0,1@0 --in-memory --no-telemetry --iova-mode pa -a ${address}`
    const queues = `--rxq ${queuePairs} --txq ${queuePairs} --nb-cores 1 --total-num-mbufs 4096`
    const testpmd = new Testpmd(guest)
    await testpmd.say(`${linker} ${environment} -- -i ${queues} --forward-mode ${forwardMode} < /dev/console`)
    return testpmd
  }

  /** Gives it a command. @returns what it printed */
  say(command: string): Promise<string> {
    return this.#guest.say(command, PROMPT)
  }

  /** Resolves when it has said that, of itself, since its last answer. */
  async hears(text: string): Promise<void> {
    await this.#guest.hears(new RegExp(text))
  }

  /** Gives it its last one. */
  async quit(): Promise<void> {
    assert.equal((await this.#guest.try('quit')).status, 0)
  }
}
