// Runs episodes: in each, one to three guests one after the other do what they like to one of two devices, and then a good
// guest comes, whose frames must pass.

import { readdirSync } from 'node:fs'
import { diffSoon, type Resources, resources, threadNames } from '../resources.ts'
import { Coverage } from './coverage.ts'
import { FuzzNic, type Transport } from './fuzz-nic.ts'
import { FuzzGuest } from './guest.ts'
import { Life } from './life.ts'
import { Operations } from './operations.ts'
import { Failure, must } from './oracle.ts'
import { Random } from './random.ts'
import { revive } from './revive.ts'

/** Episodes between two pairs of devices. */
const REOPEN_EVERY = 2000
/** Bytes that the process may have more than at first, on the same devices: JavaScript takes some before it collects any. */
const MOST_GROWTH = 256 << 20

export interface FailedEpisode {
  seed: number
  episode: number
  why: string
  operations: string[]
}

/** What the process holds between two episodes. */
interface Held {
  files: number
  threads: number
  rss: number
}

export class Fuzzer {
  readonly operations = new Operations()
  readonly coverage = new Coverage()
  readonly #seed: number
  readonly #before: Resources = resources()
  #guests: Record<Transport, FuzzGuest> | undefined
  #held: Held | undefined

  constructor(seed: number) {
    this.#seed = seed
  }

  async open(): Promise<void> {
    const mmio = await FuzzNic.open('mmio')
    const pci = await FuzzNic.open('pci')
    const guest = (device: FuzzNic): FuzzGuest => new FuzzGuest(device, this.operations, this.coverage)
    this.#guests = { mmio: guest(mmio), pci: guest(pci) }
  }

  /** Undefined where all of it was as it must be. */
  async episode(episode: number): Promise<FailedEpisode | undefined> {
    const random = new Random(this.#seed, episode)
    const transport = random.pick(['mmio', 'pci'] as const)
    const guest = this.#guests![transport]
    const { coverage, operations } = this
    operations.begin()
    try {
      let [driverOk, moved] = [false, 0]
      for (let lives = random.between(1, 3); lives > 0; lives--) {
        const life = await new Life(guest, random).live()
        coverage.lives++
        driverOk ||= life.driverOk
        moved += life.packets
      }
      await revive(guest)
      coverage.episodes++
      coverage.transports[transport]++
      coverage.packets += moved
      if (driverOk) coverage.driverOk++
      if (moved > 0) coverage.moving++
      guest.device.forget()
      if (coverage.episodes % REOPEN_EVERY === 0) await this.#reopen()
      else this.#look()
      return undefined
    } catch (error) {
      const why = error instanceof Failure ? error.message : `it throws ${error instanceof Error ? error.stack : error}`
      return { seed: this.#seed, episode, why, operations: operations.lines }
    }
  }

  #look(): void {
    const held: Held = {
      files: readdirSync('/proc/self/fd').length,
      threads: readdirSync('/proc/self/task').length,
      rss: process.memoryUsage.rss(),
    }
    this.#held ??= held
    const { files, threads, rss } = this.#held
    must(held.files === files, () => `${files} files were open and ${held.files} are`)
    must(held.threads === threads, () => `there were ${threads} threads and now ${threadNames()}`)
    const growth = held.rss - rss
    must(growth < MOST_GROWTH, () => `the process has ${(growth / 2 ** 20).toFixed()} MiB more than it had`)
  }

  async #reopen(): Promise<void> {
    await this.close()
    await this.open()
  }

  /** Closes the devices, of which nothing is left then. */
  async close(): Promise<void> {
    this.abandon()
    const left = await diffSoon(this.#before, 10_000)
    must(left.length === 0, () => `what is left when the devices are closed: ${left.join('; ')}`)
  }

  /** Closes the devices. Idempotent. */
  abandon(): void {
    for (const { device } of Object.values(this.#guests ?? {})) device.close()
    this.#guests = undefined
    this.#held = undefined
  }
}
