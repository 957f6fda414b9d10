// The KVM ioctls that a machine with vhost-net devices needs (Linux's Documentation/virt/kvm/api.rst), x86-64. One
// function each; errno is the kernel's. What has fields is passed as the bytes of the UAPI's struct.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// On /dev/kvm.
Result<int> kvm_get_api_version(int kvm);
Result<int> kvm_check_extension(int fd, uint32_t capability);
Result<UniqueFd> kvm_create_vm(int kvm);
Result<int> kvm_get_vcpu_mmap_size(int kvm);
// All entries, struct kvm_cpuid_entry2 each.
Result<std::vector<uint8_t>> kvm_get_supported_cpuid(int kvm);

// On a VM.
Result<void> kvm_set_tss_addr(int vm, uint32_t guest_address);
Result<void> kvm_set_identity_map_addr(int vm, uint64_t guest_address);
Result<void> kvm_create_irqchip(int vm);
Result<void> kvm_create_pit2(int vm, uint32_t flags);
// size 0 removes the slot. EEXIST: it overlaps another. EINVAL: not of whole pages.
Result<void> kvm_set_user_memory_region(int vm, uint32_t slot, uint32_t flags, uint64_t guest_address, uint64_t size,
                                        uint8_t* address);
// Replaces the whole table; struct kvm_irq_routing_entry each.
Result<void> kvm_set_gsi_routing(int vm, std::span<const uint8_t> entries);
// The level of a pin, which stays. EINVAL: no route has this GSI. ENXIO: there are no interrupt controllers.
Result<void> kvm_irq_line(int vm, uint32_t gsi, bool asserted);
// EBUSY: the eventfd has an irqfd already.
Result<void> kvm_irqfd(int vm, int event, uint32_t gsi, uint32_t flags);
// EEXIST: another eventfd takes the same writes.
Result<void> kvm_ioeventfd(int vm, int event, uint64_t address, uint32_t length, uint64_t datamatch, uint32_t flags);
Result<UniqueFd> kvm_create_vcpu(int vm, uint32_t id);

// On a vCPU. Each struct is as large as the kernel's: EINVAL where it is not.
Result<void> kvm_set_cpuid2(int vcpu, std::span<const uint8_t> entries);
Result<void> kvm_get_regs(int vcpu, std::span<uint8_t> regs);
Result<void> kvm_set_regs(int vcpu, std::span<const uint8_t> regs);
Result<void> kvm_get_sregs(int vcpu, std::span<uint8_t> sregs);
Result<void> kvm_set_sregs(int vcpu, std::span<const uint8_t> sregs);
Result<void> kvm_get_lapic(int vcpu, std::span<uint8_t> lapic);
Result<void> kvm_set_lapic(int vcpu, std::span<const uint8_t> lapic);

}  // namespace vhostnet
