// The vmm room's door.

export type { VmMemoryOptions, VmNicOptions, VmOptions } from './options.ts'
export { Vm, type VmEnd, type VmEvents, type VmState } from './vm.ts'
