// The KVM ioctls for JavaScript.
#include "sys/kvm.h"

#include <algorithm>

#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

template <auto get>
Value get_number(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), get(to_fd(info[0]))));
}

Value check_extension(const CallbackInfo& info) {
  int value = value_or_throw(info.Env(), kvm_check_extension(to_fd(info[0]), to_uint32(info[1], "capability")));
  return from_number(info.Env(), value);
}

Value create_vm(const CallbackInfo& info) {
  return from_fd(info.Env(), value_or_throw(info.Env(), kvm_create_vm(to_fd(info[0]))));
}

Value get_supported_cpuid(const CallbackInfo& info) {
  auto entries = value_or_throw(info.Env(), kvm_get_supported_cpuid(to_fd(info[0])));
  auto buffer = Napi::ArrayBuffer::New(info.Env(), entries.size());
  std::copy(entries.begin(), entries.end(), static_cast<uint8_t*>(buffer.Data()));
  return Napi::Uint8Array::New(info.Env(), entries.size(), buffer, 0);
}

Value set_tss_addr(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_set_tss_addr(to_fd(info[0]), to_uint32(info[1], "address")));
  return info.Env().Undefined();
}

Value set_identity_map_addr(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_set_identity_map_addr(to_fd(info[0]), to_size(info[1], "address")));
  return info.Env().Undefined();
}

Value create_irqchip(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_create_irqchip(to_fd(info[0])));
  return info.Env().Undefined();
}

Value create_pit2(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_create_pit2(to_fd(info[0]), to_uint32(info[1], "flags")));
  return info.Env().Undefined();
}

// The VM sees the range until it is closed or the slot gets another.
Value set_user_memory_region(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& vm = to_open_handle<FdHandle>(info[0]);
  uint32_t slot = to_uint32(info[1], "slot");
  uint32_t flags = to_uint32(info[2], "flags");
  uint64_t guest_address = to_size(info[3], "guestAddress");
  if (info[4].IsNull()) {
    value_or_throw(env, kvm_set_user_memory_region(vm.fd.get(), slot, flags, guest_address, 0, nullptr));
    vm.held_slots.erase(slot);
    return env.Undefined();
  }
  const auto& mapping = to_open_handle<MappingHandle>(info[4]).mapping;
  value_or_throw(
      env, kvm_set_user_memory_region(vm.fd.get(), slot, flags, guest_address, mapping->size(), mapping->address()));
  vm.held_slots[slot] = mapping;
  return env.Undefined();
}

Value set_gsi_routing(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_set_gsi_routing(to_fd(info[0]), to_bytes(info[1], "entries")));
  return info.Env().Undefined();
}

Value irq_line(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_irq_line(to_fd(info[0]), to_uint32(info[1], "gsi"), to_bool(info[2], "asserted")));
  return info.Env().Undefined();
}

Value irqfd(const CallbackInfo& info) {
  value_or_throw(info.Env(),
                 kvm_irqfd(to_fd(info[0]), to_fd(info[1]), to_uint32(info[2], "gsi"), to_uint32(info[3], "flags")));
  return info.Env().Undefined();
}

Value ioeventfd(const CallbackInfo& info) {
  value_or_throw(info.Env(), kvm_ioeventfd(to_fd(info[0]), to_fd(info[1]), to_size(info[2], "address"),
                                           to_uint32(info[3], "length"), to_uint64(info[4], "datamatch"),
                                           to_uint32(info[5], "flags")));
  return info.Env().Undefined();
}

Value create_vcpu(const CallbackInfo& info) {
  return from_fd(info.Env(), value_or_throw(info.Env(), kvm_create_vcpu(to_fd(info[0]), to_uint32(info[1], "id"))));
}

// Gets or sets the bytes of one struct.
template <auto move>
Value move_bytes(const CallbackInfo& info) {
  value_or_throw(info.Env(), move(to_fd(info[0]), to_bytes(info[1], "bytes")));
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"kvmGetApiVersion", get_number<kvm_get_api_version>},
    {"kvmCheckExtension", check_extension},
    {"kvmCreateVm", create_vm},
    {"kvmGetVcpuMmapSize", get_number<kvm_get_vcpu_mmap_size>},
    {"kvmGetSupportedCpuid", get_supported_cpuid},
    {"kvmSetTssAddr", set_tss_addr},
    {"kvmSetIdentityMapAddr", set_identity_map_addr},
    {"kvmCreateIrqchip", create_irqchip},
    {"kvmCreatePit2", create_pit2},
    {"kvmSetUserMemoryRegion", set_user_memory_region},
    {"kvmSetGsiRouting", set_gsi_routing},
    {"kvmIrqLine", irq_line},
    {"kvmIrqfd", irqfd},
    {"kvmIoeventfd", ioeventfd},
    {"kvmCreateVcpu", create_vcpu},
    {"kvmSetCpuid2", move_bytes<kvm_set_cpuid2>},
    {"kvmGetRegs", move_bytes<kvm_get_regs>},
    {"kvmSetRegs", move_bytes<kvm_set_regs>},
    {"kvmGetSregs", move_bytes<kvm_get_sregs>},
    {"kvmSetSregs", move_bytes<kvm_set_sregs>},
    {"kvmGetLapic", move_bytes<kvm_get_lapic>},
    {"kvmSetLapic", move_bytes<kvm_set_lapic>},
};

}  // namespace

void export_kvm(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
