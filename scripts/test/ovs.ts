// Open vSwitch and OVN of Debian.

import path from 'node:path'
import { cacheDirectory } from '../lab/project.ts'
import { provideUnpacked } from './unpacked.ts'

/** Where the programs, their libraries and the databases' schemas lie. */
export const ovsDirectory = path.join(cacheDirectory, 'ovs')

/** Fetches them, once. */
export const provideOvs = async (): Promise<void> => {
  await provideUnpacked({
    name: 'Open vSwitch',
    directory: ovsDirectory,
    packages: () => ['openvswitch-switch', 'openvswitch-common', 'ovn-common', 'ovn-central', 'ovn-host'],
    programs: [
      'usr/lib/openvswitch-switch/ovs-vswitchd',
      'usr/sbin/ovsdb-server',
      'usr/bin/ovsdb-tool',
      'usr/bin/ovs-vsctl',
      'usr/bin/ovs-appctl',
      'usr/bin/ovn-northd',
      'usr/bin/ovn-controller',
      'usr/bin/ovn-nbctl',
    ],
    data: [
      'usr/share/openvswitch/vswitch.ovsschema',
      'usr/share/ovn/ovn-nb.ovsschema',
      'usr/share/ovn/ovn-sb.ovsschema',
    ],
  })
}
