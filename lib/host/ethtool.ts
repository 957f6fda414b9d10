// What a network device offloads, by ethtool's names.

import { binding, systemCall } from '../binding/index.ts'

/** `ethtool -k`: feature name (`'tx-tcp-segmentation'`) → active. @throws {SystemCallError} `ENODEV`, `EOPNOTSUPP` */
export function ethtoolFeatures(ifname: string): Record<string, boolean> {
  return systemCall(() => binding().ethtoolFeatures(ifname), { subject: ifname, context: { ifname } })
}
