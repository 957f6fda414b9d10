// The network room's door: where a NIC's end in this host is plugged in.

export type { BandwidthOptions, InboundLimit, OutboundLimit } from './bandwidth.ts'
export type { BridgeOptions, BridgeVlanOptions } from './bridge.ts'
export type { MacvtapPlugOptions } from './macvtap.ts'
export type { OvsdbOptions, OvsdbTls, OvsOptions } from './ovs.ts'
export { checkWhere, type NetworkKind, type PlugOptions, plug, type Where } from './plug.ts'
export { Plugged, type PluggedState } from './plugged.ts'
export type { PluggedLink } from './plugged-link.ts'
export { listPorts, type NetworkPort, type PortNetwork } from './ports.ts'
export type { RouteOptions } from './route.ts'
export type { Step, Undo } from './step.ts'
export { type UnplugOptions, unplug } from './unplug.ts'
