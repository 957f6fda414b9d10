// The pci room's door.

export { PciBar, type PciBarOptions } from './bar.ts'
export { type ConfigAddress, PciBus } from './bus.ts'
export type { ConfigPart, PciCapability } from './config-part.ts'
export { ConfigPorts } from './config-ports.ts'
export { Ecam } from './ecam.ts'
export { PciFunction, type PciFunctionOptions, type PciFunctionState } from './function.ts'
export type { PciIdentity } from './header.ts'
export { Msix, type MsixOptions, type MsixState } from './msix.ts'
export { type PlacedRegisters, RegisterMap } from './register-map.ts'
