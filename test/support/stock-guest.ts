// A stock kernel of Debian on a machine of ours, with a shell on its console for tests to type into.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet, type VirtioNetOptions } from '../../lib/nic.ts'
import { Teardown } from '../../lib/teardown.ts'
import { Vm, type VmEnd, type VmOptions } from '../../lib/vmm/index.ts'
import { type GuestKernelName, provideKernel } from '../../scripts/lab/kernels.ts'
import { PROMPT, writeGuestInitramfs } from './guest-initramfs.ts'

const APPEND =
  'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable 8250.nr_uarts=1 i8042.noaux i8042.nokbd pci=off'
const BOOT_SECONDS = 90

export interface GuestNicOptions extends Partial<Omit<VirtioNetOptions, 'memory' | 'backend'>> {
  ifname: string
  /** Of the tap, in the host. */
  address: string
}

export interface StockGuestOptions extends Pick<VmOptions, 'smp' | 'memory'> {
  kernel: GuestKernelName
  nics: readonly GuestNicOptions[]
}

export interface CommandResult {
  output: string
  status: number
}

/** The guest has eth0, eth1 … in the order of `nics`, without addresses, and down. */
export class StockGuest {
  readonly vm: Vm
  readonly nics: VirtioNet[] = []
  readonly netlink: RtNetlink
  /** Everything it wrote to its console. */
  console = ''
  readonly ended: Promise<VmEnd>
  readonly #all = new Teardown()
  #commands = 0
  #heard: () => void = () => undefined

  private constructor(options: VmOptions) {
    const vm = new Vm(options)
    this.vm = vm
    this.netlink = this.#all.own(RtNetlink.open())
    vm.on('console', (bytes) => {
      this.console += Buffer.from(bytes).toString('latin1')
      this.#heard()
    })
    this.ended = new Promise((resolve) => {
      vm.once('end', (end) => {
        resolve(end)
        this.#heard()
      })
    })
  }

  static async boot({ kernel: name, nics, smp = 1, memory = 512 << 20 }: StockGuestOptions): Promise<StockGuest> {
    const kernel = await provideKernel(name)
    const directory = mkdtempSync(path.join(tmpdir(), 'guest-'))
    let guest: StockGuest | undefined
    try {
      const initrd = path.join(directory, 'initrd')
      writeGuestInitramfs(kernel, initrd)
      guest = new StockGuest({ kernel: kernel.vmlinux, initrd, append: APPEND, smp, memory })
      for (const nic of nics) await guest.#attach(nic)
      // The devices are used by the machine's transports, which go first.
      guest.#all.own(guest.vm)
      guest.vm.start()
      await guest.#prompt(0, BOOT_SECONDS)
      return guest
    } catch (error) {
      guest?.close()
      throw error
    } finally {
      rmSync(directory, { recursive: true })
    }
  }

  async #attach({ ifname, address, ...options }: GuestNicOptions): Promise<void> {
    const { memory } = this.vm
    const nic = this.#all.own(await VirtioNet.open({ ...options, memory, backend: { tap: { ifname } } }))
    this.nics.push(nic)
    const index = this.netlink.getLink({ ifname })?.index as number
    this.netlink.addAddress(index, { address, prefixLength: 24 })
    this.netlink.setLink(index, { up: true })
    this.vm.attach(nic)
  }

  /** Types a command. @returns what it printed, and its status */
  async try(command: string, seconds = 60): Promise<CommandResult> {
    const from = this.console.length
    this.vm.write(`${command}\n`)
    return await this.#prompt(++this.#commands, seconds, from)
  }

  /** The same for a command that is to succeed. @returns what it printed */
  async run(command: string, seconds?: number): Promise<string> {
    const { output, status } = await this.try(command, seconds)
    if (status !== 0) throw new Error(`the guest's "${command}" ended with ${status}:\n${output}`)
    return output
  }

  /** How its machine ended, within so many seconds. */
  async end(seconds: number): Promise<VmEnd> {
    const abort = new AbortController()
    const late = setTimeout(seconds * 1000, undefined, { signal: abort.signal }).catch(() => undefined)
    const end = await Promise.race([this.ended, late])
    abort.abort()
    if (end === undefined) throw new Error(`the guest runs on ${this.#explain()}`)
    return end
  }

  async #prompt(number: number, seconds: number, from = 0): Promise<CommandResult> {
    const pattern = new RegExp(`^${PROMPT}${number} (\\d+)\n`, 'm')
    const abort = new AbortController()
    const late = setTimeout(seconds * 1000, 'late' as const, { signal: abort.signal }).catch(() => undefined)
    const over = this.ended.then(() => 'over' as const)
    try {
      for (;;) {
        const heard = new Promise<void>((resolve) => {
          this.#heard = resolve
        })
        const written = this.console.slice(from)
        const found = pattern.exec(written)
        if (found !== null) return { output: written.slice(0, found.index), status: Number(found[1]) }
        const why = await Promise.race([heard, late, over])
        if (why !== undefined) throw new Error(`the guest is ${why} ${this.#explain()}`)
      }
    } finally {
      abort.abort()
    }
  }

  /** Where it stands, for a failure report: its processors are held for that. */
  #explain(): string {
    this.vm.pause()
    const stands = [this.vm.inspect(), ...this.nics.map((nic) => nic.inspect())]
    return `and stands at\n${JSON.stringify(stands, null, 1)}\nIt said:\n${this.console.slice(-4000)}`
  }

  close(): void {
    this.#all.run()
  }
}
