// The vhost ioctls for JavaScript.
#include "sys/vhost.h"

#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

// null is how JavaScript says "none", -1 how the kernel does.
int to_fd_or_none(const Value& value) { return value.IsNull() ? -1 : to_fd(value); }

template <auto get>
Value get_features(const CallbackInfo& info) {
  return from_uint64(info.Env(), value_or_throw(info.Env(), get(to_fd(info[0]))));
}

Value set_features(const CallbackInfo& info) {
  value_or_throw(info.Env(), vhost_set_features(to_fd(info[0]), to_uint64(info[1], "features")));
  return info.Env().Undefined();
}

Value set_owner(const CallbackInfo& info) {
  value_or_throw(info.Env(), vhost_set_owner(to_fd(info[0])));
  return info.Env().Undefined();
}

Value reset_owner(const CallbackInfo& info) {
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  value_or_throw(info.Env(), vhost_reset_owner(handle.fd.get()));
  handle.held.clear();
  return info.Env().Undefined();
}

Value set_mem_table(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  if (!info[1].IsArray()) throw_wrong_type(env, "regions", "is not an array");
  auto array = info[1].As<Napi::Array>();
  std::vector<uapi::vhost_memory_region> regions;
  std::vector<std::shared_ptr<Mapping>> held;
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::Object entry = to_object(array.Get(i), "region");
    const auto& mapping = to_open_handle<MappingHandle>(entry.Get("mapping")).mapping;
    uint64_t offset = to_size(entry.Get("offset"), "offset");
    uint64_t size = to_size(entry.Get("memory_size"), "memory_size");
    if (!mapping->contains(offset, size)) throw_out_of_range(env, "regions", "has one outside its mapping");
    regions.push_back({to_size(entry.Get("guest_phys_addr"), "guest_phys_addr"), size,
                       reinterpret_cast<uint64_t>(mapping->address()) + offset, 0});
    held.push_back(mapping);
  }
  value_or_throw(env, vhost_set_mem_table(handle.fd.get(), regions));
  handle.held = std::move(held);
  return env.Undefined();
}

template <auto set>
Value set_vring_state(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_uint32(info[1], "index"), to_uint32(info[2], "value")));
  return info.Env().Undefined();
}

Value get_vring_base(const CallbackInfo& info) {
  auto base = vhost_get_vring_base(to_fd(info[0]), to_uint32(info[1], "index"));
  return from_number(info.Env(), value_or_throw(info.Env(), std::move(base)));
}

Value set_vring_addr(const CallbackInfo& info) {
  Napi::Object addresses = to_object(info[2], "addresses");
  auto address = [&](const char* name) { return to_uint64(addresses.Get(name), name); };
  uapi::vhost_vring_addr addr{};
  addr.index = to_uint32(info[1], "index");
  addr.flags = to_uint32(addresses.Get("flags"), "flags");
  addr.desc_user_addr = address("desc_user_addr");
  addr.used_user_addr = address("used_user_addr");
  addr.avail_user_addr = address("avail_user_addr");
  addr.log_guest_addr = address("log_guest_addr");
  value_or_throw(info.Env(), vhost_set_vring_addr(to_fd(info[0]), addr));
  return info.Env().Undefined();
}

template <auto set>
Value set_vring_file(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_uint32(info[1], "index"), to_fd_or_none(info[2])));
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"vhostGetFeatures", get_features<vhost_get_features>},
    {"vhostSetFeatures", set_features},
    {"vhostGetBackendFeatures", get_features<vhost_get_backend_features>},
    {"vhostSetOwner", set_owner},
    {"vhostResetOwner", reset_owner},
    {"vhostSetMemTable", set_mem_table},
    {"vhostSetVringNum", set_vring_state<vhost_set_vring_num>},
    {"vhostSetVringAddr", set_vring_addr},
    {"vhostSetVringBase", set_vring_state<vhost_set_vring_base>},
    {"vhostGetVringBase", get_vring_base},
    {"vhostSetVringKick", set_vring_file<vhost_set_vring_kick>},
    {"vhostSetVringCall", set_vring_file<vhost_set_vring_call>},
    {"vhostSetVringErr", set_vring_file<vhost_set_vring_err>},
    {"vhostNetSetBackend", set_vring_file<vhost_net_set_backend>},
};

}  // namespace

void export_vhost(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
