// A virtio network device together with its backend: the one place where the two meet.

import { type SwapTapOptions, VhostNetBackend, type VhostNetBackendOptions } from './backend/index.ts'
import { checkTapObject } from './backend/vhost-net/options.ts'
import { VirtioNetDevice, type VirtioNetSettings } from './net/index.ts'
import { checkSettings } from './net/options.ts'
import { checkObject } from './options.ts'
import { Teardown } from './teardown.ts'

export interface VirtioNetOptions extends VirtioNetSettings {
  /** What the guest and the kernel's workers share. It must outlive the device. */
  memory: VhostNetBackendOptions['memory']
  /** 1..256. Default 1, or as many as there are fds in `backend`. */
  queuePairs?: number
  /** Where packets go: vhost-net and a tap. */
  backend: Omit<VhostNetBackendOptions, 'memory' | 'queuePairs'>
}

/** A NIC for a guest that has its backend to itself. Put it behind a transport. */
export class VirtioNet extends VirtioNetDevice {
  /** Closed with the device. */
  readonly backend: VhostNetBackend
  readonly #hostMtu: number | undefined
  #link: { close(): void } | undefined

  private constructor(options: VirtioNetOptions, backend: VhostNetBackend) {
    const { queuePairs: _, ...settings } = options
    super({ ...settings, backend })
    this.backend = backend
    this.#hostMtu = options.host_mtu
  }

  /**
   * Opens the backend and makes the device. A tap that is created gets `host_mtu` as its MTU. Rejects, with everything
   * undone, with {@link InvalidOptionError} `ERR_OPTION_*`, before anything is opened where no tap and no fd need be looked
   * at, or {@link SystemCallError}.
   */
  static async open(options: VirtioNetOptions): Promise<VirtioNet> {
    checkSettings(options, ['memory', 'queuePairs', 'backend'])
    const { memory, queuePairs, host_mtu: mtu } = options
    checkObject(options.backend, ['tap', 'macvtap', 'fds', 'vhost', 'vhostfds', 'sndbuf', 'poll_us'], 'backend')
    const backend = await VhostNetBackend.open({
      ...withMtu(options.backend, mtu),
      memory,
      ...(queuePairs === undefined ? {} : { queuePairs }),
    })
    let nic: VirtioNet | undefined
    try {
      nic = new VirtioNet(options, backend)
      nic.#followLink()
      return nic
    } catch (error) {
      ;(nic ?? backend).close()
      throw error
    }
  }

  /** A guest whose tap is switched off has no link. */
  #followLink(): void {
    this.#link = this.backend.watchLink((up) => {
      this.hostLink = up
    })
  }

  /**
   * Plugs the cable into another tap while the guest runs: it notices no more than the loss of some frames, or that it has
   * link again where its tap was deleted. A tap that is created gets `host_mtu` as its MTU, and is down until somebody sets
   * it up: one that is to have the guest's traffic at once is made before, and set up.
   * @see {@link VhostNetBackend.swapTap}
   */
  async swapTap(options: SwapTapOptions): Promise<void> {
    checkObject(options, ['tap', 'macvtap', 'fds'])
    await this.backend.swapTap(withMtu(options, this.#hostMtu))
  }

  /** Resets the device, closes its eventfds and the backend. Close its transport first. Idempotent. */
  override close(): void {
    const all = new Teardown()
    all.add(() => this.backend.close())
    all.add(() => super.close())
    all.add(() => this.#link?.close())
    all.run()
  }
}

/** A tap that is created has it, unless it says otherwise. */
function withMtu<O extends SwapTapOptions>(options: O, mtu: number | undefined): O {
  const { tap } = options
  return tap === undefined || mtu === undefined ? options : { ...options, tap: { mtu, ...checkTapObject(tap) } }
}
