// The transport room's door.

export { type VirtioMmioOptions, type VirtioMmioState, VirtioMmioTransport } from './mmio.ts'
export { defaultVectors, type VirtioPciOptions, type VirtioPciState, VirtioPciTransport } from './pci.ts'
