#include "sys/kvm.h"

#include <linux/kvm.h>

#include <cstring>

#include "sys/ioctl.h"

namespace vhostnet {

namespace {

// What is in front of an array: a number of entries, and flags or padding. As C++ the header's own structs end in an
// empty struct, which has a size here and none in C, so that their ioctl numbers would be others.
struct ArrayHeader {
  uint32_t count;
  uint32_t flags;
};
static_assert(sizeof(ArrayHeader) == 8);

constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, ArrayHeader);
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, ArrayHeader);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, ArrayHeader);
static_assert(kGetSupportedCpuid == 0xc008ae05 && kSetGsiRouting == 0x4008ae6a && kSetCpuid2 == 0x4008ae90);
static_assert(KVM_SET_USER_MEMORY_REGION == 0x4020ae46 && KVM_IRQFD == 0x4020ae76 && KVM_IOEVENTFD == 0x4040ae79);
static_assert(KVM_IRQ_LINE == 0x4008ae61 && sizeof(kvm_irq_level) == 8);
static_assert(KVM_CREATE_PIT2 == 0x4040ae77 && KVM_GET_REGS == 0x8090ae81 && KVM_GET_SREGS == 0x8138ae83);

// Linux has 80 at most (KVM_MAX_CPUID_ENTRIES was that, and is 256 since 5.10).
constexpr size_t kMostCpuidEntries = 256;

std::vector<uint8_t> with_header(std::span<const uint8_t> entries, size_t entry_size) {
  ArrayHeader header{static_cast<uint32_t>(entries.size() / entry_size), 0};
  std::vector<uint8_t> argument(sizeof header + entries.size());
  std::memcpy(argument.data(), &header, sizeof header);
  if (!entries.empty()) std::memcpy(argument.data() + sizeof header, entries.data(), entries.size());
  return argument;
}

Result<void> set_array(int fd, unsigned long request, const char* name, std::span<const uint8_t> entries,
                       size_t entry_size) {
  if (entries.size() % entry_size) return Error{EINVAL, name, "not a whole number of entries"};
  return control(fd, request, name, with_header(entries, entry_size).data());
}

template <typename Struct, typename Byte>
Result<void> move_struct(int fd, unsigned long request, const char* name, std::span<Byte> bytes) {
  if (bytes.size() != sizeof(Struct))
    return Error{EINVAL, name, "its struct has " + std::to_string(sizeof(Struct)) + " bytes"};
  return control(fd, request, name, bytes.data());
}

}  // namespace

Result<int> kvm_get_api_version(int kvm) { return control_value(kvm, KVM_GET_API_VERSION, "KVM_GET_API_VERSION", 0ul); }

Result<int> kvm_check_extension(int fd, uint32_t capability) {
  return control_value(fd, KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION", static_cast<unsigned long>(capability));
}

Result<UniqueFd> kvm_create_vm(int kvm) {
  auto fd = control_value(kvm, KVM_CREATE_VM, "KVM_CREATE_VM", 0ul);
  if (!fd.ok()) return fd.error();
  return UniqueFd(fd.value());
}

Result<int> kvm_get_vcpu_mmap_size(int kvm) {
  return control_value(kvm, KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE", 0ul);
}

Result<std::vector<uint8_t>> kvm_get_supported_cpuid(int kvm) {
  ArrayHeader header{kMostCpuidEntries, 0};
  std::vector<uint8_t> argument(sizeof header + kMostCpuidEntries * sizeof(kvm_cpuid_entry2));
  std::memcpy(argument.data(), &header, sizeof header);
  auto done = control(kvm, kGetSupportedCpuid, "KVM_GET_SUPPORTED_CPUID", argument.data());
  if (!done.ok()) return done.error();
  std::memcpy(&header, argument.data(), sizeof header);
  argument.resize(sizeof header + header.count * sizeof(kvm_cpuid_entry2));
  argument.erase(argument.begin(), argument.begin() + sizeof header);
  return argument;
}

Result<void> kvm_set_tss_addr(int vm, uint32_t guest_address) {
  return control(vm, KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", static_cast<unsigned long>(guest_address));
}

Result<void> kvm_set_identity_map_addr(int vm, uint64_t guest_address) {
  return control(vm, KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", &guest_address);
}

Result<void> kvm_create_irqchip(int vm) { return control(vm, KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", 0ul); }

Result<void> kvm_create_pit2(int vm, uint32_t flags) {
  kvm_pit_config config{};
  config.flags = flags;
  return control(vm, KVM_CREATE_PIT2, "KVM_CREATE_PIT2", &config);
}

Result<void> kvm_set_user_memory_region(int vm, uint32_t slot, uint32_t flags, uint64_t guest_address, uint64_t size,
                                        uint8_t* address) {
  kvm_userspace_memory_region region{slot, flags, guest_address, size, reinterpret_cast<uint64_t>(address)};
  return control(vm, KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
}

Result<void> kvm_set_gsi_routing(int vm, std::span<const uint8_t> entries) {
  return set_array(vm, kSetGsiRouting, "KVM_SET_GSI_ROUTING", entries, sizeof(kvm_irq_routing_entry));
}

Result<void> kvm_irq_line(int vm, uint32_t gsi, bool asserted) {
  kvm_irq_level argument{};
  argument.irq = gsi;
  argument.level = asserted ? 1 : 0;
  return control(vm, KVM_IRQ_LINE, "KVM_IRQ_LINE", &argument);
}

Result<void> kvm_irqfd(int vm, int event, uint32_t gsi, uint32_t flags) {
  ::kvm_irqfd argument{};
  argument.fd = static_cast<uint32_t>(event);
  argument.gsi = gsi;
  argument.flags = flags;
  return control(vm, KVM_IRQFD, "KVM_IRQFD", &argument);
}

Result<void> kvm_ioeventfd(int vm, int event, uint64_t address, uint32_t length, uint64_t datamatch, uint32_t flags) {
  ::kvm_ioeventfd argument{};
  argument.datamatch = datamatch;
  argument.addr = address;
  argument.len = length;
  argument.fd = event;
  argument.flags = flags;
  return control(vm, KVM_IOEVENTFD, "KVM_IOEVENTFD", &argument);
}

Result<UniqueFd> kvm_create_vcpu(int vm, uint32_t id) {
  auto fd = control_value(vm, KVM_CREATE_VCPU, "KVM_CREATE_VCPU", static_cast<unsigned long>(id));
  if (!fd.ok()) return fd.error();
  return UniqueFd(fd.value());
}

Result<void> kvm_set_cpuid2(int vcpu, std::span<const uint8_t> entries) {
  return set_array(vcpu, kSetCpuid2, "KVM_SET_CPUID2", entries, sizeof(kvm_cpuid_entry2));
}

Result<void> kvm_get_regs(int vcpu, std::span<uint8_t> regs) {
  return move_struct<kvm_regs>(vcpu, KVM_GET_REGS, "KVM_GET_REGS", regs);
}

Result<void> kvm_set_regs(int vcpu, std::span<const uint8_t> regs) {
  return move_struct<kvm_regs>(vcpu, KVM_SET_REGS, "KVM_SET_REGS", regs);
}

Result<void> kvm_get_sregs(int vcpu, std::span<uint8_t> sregs) {
  return move_struct<kvm_sregs>(vcpu, KVM_GET_SREGS, "KVM_GET_SREGS", sregs);
}

Result<void> kvm_set_sregs(int vcpu, std::span<const uint8_t> sregs) {
  return move_struct<kvm_sregs>(vcpu, KVM_SET_SREGS, "KVM_SET_SREGS", sregs);
}

Result<void> kvm_get_lapic(int vcpu, std::span<uint8_t> lapic) {
  return move_struct<kvm_lapic_state>(vcpu, KVM_GET_LAPIC, "KVM_GET_LAPIC", lapic);
}

Result<void> kvm_set_lapic(int vcpu, std::span<const uint8_t> lapic) {
  return move_struct<kvm_lapic_state>(vcpu, KVM_SET_LAPIC, "KVM_SET_LAPIC", lapic);
}

}  // namespace vhostnet
