// The transport room's door.

export { type VirtioMmioOptions, type VirtioMmioState, VirtioMmioTransport } from './mmio.ts'
