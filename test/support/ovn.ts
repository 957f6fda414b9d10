// OVN of a test's own on an Open vSwitch: its central (both databases and ovn-northd) and ovn-controller on one host. ovn-architecture(7).

import { OvsdbClient } from '../../lib/network/ovsdb/client.ts'
import { optional, references } from '../../lib/network/ovsdb/values.ts'
import { TestSwitch } from './ovs.ts'

/** In seconds. */
const PATIENCE = 60

/** The host's chassis, and the bridge that its ovn-controller looks at. */
export const CHASSIS = 'hv1'
export const INTEGRATION_BRIDGE = 'br-int'

/** Another chassis, which shares the switch, and has a bridge of its own in it. */
export const OTHER = { chassis: 'hv2', bridge: 'br-hv2' } as const

export class TestOvn {
  readonly ovs: TestSwitch
  readonly #db: string

  private constructor(ovs: TestSwitch) {
    this.ovs = ovs
    this.#db = `unix:${ovs.file('central.sock')}`
  }

  static async start(): Promise<TestOvn> {
    const started = new TestOvn(await TestSwitch.start())
    try {
      await started.#startCentral()
      await started.#configureHost()
      await started.startController()
      return started
    } catch (error) {
      await started.close()
      throw error
    }
  }

  async #startCentral(): Promise<void> {
    const { ovs } = this
    const databases = ['ovn-nb', 'ovn-sb']
    for (const name of databases) await ovs.createDatabase(name, `${name}.ovsschema`)
    const files = databases.map((name) => ovs.file(`${name}.db`))
    await ovs.startDaemon('central', 'ovsdb-server', ...files, `--remote=p${this.#db}`)
    await ovs.startDaemon('ovn-northd', 'ovn-northd', `--ovnnb-db=${this.#db}`, `--ovnsb-db=${this.#db}`)
  }

  /** What the administrator of a host tells ovn-controller. */
  async #configureHost(): Promise<void> {
    const ids = {
      'system-id': CHASSIS,
      'ovn-remote': this.#db,
      'ovn-encap-type': 'geneve',
      'ovn-encap-ip': '127.0.0.1',
      [`ovn-bridge-${OTHER.chassis}`]: OTHER.bridge,
      [`ovn-encap-ip-${OTHER.chassis}`]: '127.0.0.2',
    }
    const settings = Object.entries(ids).map(([key, value]) => `external_ids:${key}="${value}"`)
    const bridges = [INTEGRATION_BRIDGE, OTHER.bridge].flatMap((name) => ['--', 'add-br', name])
    await this.ovs.vsctl('set', 'Open_vSwitch', '.', ...settings, ...bridges)
  }

  /** @param chassis the host's own, or another that shares its switch. */
  async startController(chassis: string = CHASSIS): Promise<void> {
    const own = chassis === CHASSIS ? [] : ['-n', chassis]
    await this.ovs.startDaemon(chassis, 'ovn-controller', this.ovs.db, ...own)
  }

  async nbctl(...args: string[]): Promise<string> {
    return await this.ovs.run('ovn-nbctl', `--db=${this.#db}`, `--timeout=${PATIENCE}`, ...args)
  }

  /** A logical switch with a port for each address; resolves when the southbound database has them. */
  async addSwitch(name: string, ports: Readonly<Record<string, string>>): Promise<void> {
    const add = Object.entries(ports).flatMap(([port, mac]) => [
      ...['--', 'lsp-add', name, port],
      ...['--', 'lsp-set-addresses', port, mac],
    ])
    await this.nbctl('--wait=sb', 'ls-add', name, ...add)
  }

  /** Resolves when OVN has it so. */
  async untilUp(port: string, up: boolean): Promise<void> {
    await this.nbctl('wait-until', 'Logical_Switch_Port', port, `up=${up}`)
  }

  /** The name of the chassis that has claimed a logical port. */
  async chassisOf(port: string): Promise<string | undefined> {
    const client = await OvsdbClient.connect({ db: this.#db, timeoutMs: 1000 * PATIENCE })
    try {
      const [bindings, all] = await client.transact('OVN_Southbound', [
        { op: 'select', table: 'Port_Binding', where: [['logical_port', '==', port]], columns: ['chassis'] },
        { op: 'select', table: 'Chassis', where: [], columns: ['_uuid', 'name'] },
      ])
      const [id] = references(bindings?.rows?.[0]?.chassis)
      const chassis = all?.rows?.find((row) => references(row._uuid)[0] === id)
      return chassis === undefined ? undefined : String(optional(chassis.name))
    } finally {
      client.close()
    }
  }

  async close(): Promise<void> {
    await this.ovs.close()
  }
}
