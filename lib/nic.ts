// A virtio network device together with its backend: the one place where the two meet.

import { VhostNetBackend, type VhostNetBackendOptions } from './backend/index.ts'
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
  #link: { close(): void } | undefined

  private constructor(options: VirtioNetOptions, backend: VhostNetBackend) {
    const { queuePairs: _, ...settings } = options
    super({ ...settings, backend })
    this.backend = backend
  }

  /**
   * Opens the backend and makes the device. A tap that is created gets `host_mtu` as its MTU. Rejects, with everything
   * undone, with {@link InvalidOptionError} `ERR_OPTION_*`, before anything is opened where no tap and no fd need be looked
   * at, or {@link SystemCallError}.
   */
  static async open(options: VirtioNetOptions): Promise<VirtioNet> {
    checkSettings(options, ['memory', 'queuePairs', 'backend'])
    const { memory, queuePairs, host_mtu: mtu } = options
    checkObject(options.backend, ['tap', 'fds', 'vhost', 'vhostfds', 'sndbuf', 'poll_us'], 'backend')
    const { tap, ...packets } = options.backend
    const backend = await VhostNetBackend.open({
      ...packets,
      memory,
      ...(tap === undefined ? {} : { tap: mtu === undefined ? tap : { mtu, ...checkTapObject(tap) } }),
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

  /** Resets the device, closes its eventfds and the backend. Close its transport first. Idempotent. */
  override close(): void {
    const all = new Teardown()
    all.add(() => this.backend.close())
    all.add(() => super.close())
    all.add(() => this.#link?.close())
    all.run()
  }
}
