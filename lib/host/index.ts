// The host room's door.

export { ethtoolFeatures } from './ethtool.ts'
export * from './rtnetlink.ts'
export { Tap, type TapOptions } from './tap.ts'
export { Vhost } from './vhost.ts'
export { VhostNet } from './vhost-net.ts'
