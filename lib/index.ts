// The package's public door: no side effects, importable on any OS.

export * from './backend/index.ts'
export * from './driver/index.ts'
export * from './errors.ts'
export * from './event/index.ts'
export * from './host/index.ts'
export * from './memory/index.ts'
export * from './net/index.ts'
export * from './nic.ts'
export * from './pci/index.ts'
export * from './transport/index.ts'
export * from './virtio/index.ts'
