// What CPUID shows on one of a guest's processors (Intel SDM volume 2, CPUID).

import { KVM_CPUID_ENTRY2 as ENTRY } from '../abi/kvm.ts'

const HYPERVISOR = 2 ** 31
const TSC_DEADLINE = 2 ** 24

/** What the host can show, with what differs by processor. */
export function cpuidOf(supported: Uint8Array, apicId: number): Uint8Array {
  const entries = supported.slice()
  const view = new DataView(entries.buffer)
  for (let at = 0; at < entries.length; at += ENTRY.size) {
    switch (view.getUint32(at + ENTRY.function, true)) {
      case 0x1: {
        // In bits 16 to 23: one logical processor in a package, so that each is a package of its own.
        const ebx = (view.getUint32(at + ENTRY.ebx, true) & 0xffff) | (1 << 16)
        view.setUint32(at + ENTRY.ebx, (ebx | (apicId << 24)) >>> 0, true)
        const ecx = view.getUint32(at + ENTRY.ecx, true)
        view.setUint32(at + ENTRY.ecx, (ecx | HYPERVISOR | TSC_DEADLINE) >>> 0, true)
        break
      }
      case 0xb:
      case 0x1f:
        view.setUint32(at + ENTRY.edx, apicId, true)
        break
    }
  }
  return entries
}
