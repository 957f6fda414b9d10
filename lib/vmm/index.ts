// The vmm room's door.

export { Vm, type VmEnd, type VmEvents, type VmOptions, type VmState } from './vm.ts'
