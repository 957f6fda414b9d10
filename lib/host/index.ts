// The host room's door.

export type { BpfInstruction, IotlbMessage } from '../binding/index.ts'
export { ethtoolFeatures } from './ethtool.ts'
export { type AddressSpace, GuestBus } from './guest-bus.ts'
export { KvmVcpu, type KvmVcpuState, type RegisterName } from './kvm-vcpu.ts'
export { KvmVm } from './kvm-vm.ts'
export type { NetNamespace } from './net-namespace.ts'
export { probeVhostNet, type VhostNetAbilities } from './probe.ts'
export * from './rtnetlink.ts'
export { Tap, type TapOptions } from './tap.ts'
export { type KvmExitName, type VcpuCounters, type VcpuEnd, VcpuThread } from './vcpu-thread.ts'
export { type IotlbInvalidate, type IotlbUpdate, Vhost } from './vhost.ts'
export { VhostNet } from './vhost-net.ts'
