// The vhost ioctls for JavaScript.
#include "sys/vhost.h"

#include <algorithm>

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

template <auto set>
Value set_features(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_uint64(info[1], "features")));
  return info.Env().Undefined();
}

Value get_features_array(const CallbackInfo& info) {
  VhostFeatures features = value_or_throw(info.Env(), vhost_get_features_array(to_fd(info[0])));
  return Napi::BigInt::New(info.Env(), 0, features.size(), features.data());
}

VhostFeatures to_features(const Value& value) {
  if (!value.IsBigInt()) throw_wrong_type(value.Env(), "features", "is not a bigint");
  VhostFeatures features{};
  int negative = 0;
  size_t words = features.size();
  // Sets words to how many there are, of which it writes no more than there is room for.
  value.As<Napi::BigInt>().ToWords(&negative, &words, features.data());
  if (negative || words > features.size()) throw_out_of_range(value.Env(), "features", "is not within 128 bits");
  return features;
}

Value set_features_array(const CallbackInfo& info) {
  value_or_throw(info.Env(), vhost_set_features_array(to_fd(info[0]), to_features(info[1])));
  return info.Env().Undefined();
}

Value set_fork_from_owner(const CallbackInfo& info) {
  uint32_t mode = to_uint32(info[1], "mode");
  if (mode > UINT8_MAX) throw_out_of_range(info.Env(), "mode", "has more than 8 bits");
  value_or_throw(info.Env(), vhost_set_fork_from_owner(to_fd(info[0]), static_cast<uint8_t>(mode)));
  return info.Env().Undefined();
}

Value get_fork_from_owner(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), vhost_get_fork_from_owner(to_fd(info[0]))));
}

Value new_worker(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), vhost_new_worker(to_fd(info[0]))));
}

Value free_worker(const CallbackInfo& info) {
  value_or_throw(info.Env(), vhost_free_worker(to_fd(info[0]), to_uint32(info[1], "worker")));
  return info.Env().Undefined();
}

Value set_owner(const CallbackInfo& info) {
  value_or_throw(info.Env(), vhost_set_owner(to_fd(info[0])));
  return info.Env().Undefined();
}

Value reset_owner(const CallbackInfo& info) {
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  value_or_throw(info.Env(), vhost_reset_owner(handle.fd.get()));
  handle.let_go();
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

// A range of a mapping that the worker is to reach.
struct Reachable {
  const std::shared_ptr<Mapping>& mapping;
  uint64_t address;
  uint64_t size;
};

Reachable to_reachable(const Value& mapping_value, const Value& offset_value, const Value& size_value) {
  const auto& mapping = to_open_handle<MappingHandle>(mapping_value).mapping;
  uint64_t offset = to_size(offset_value, "offset");
  uint64_t size = to_size(size_value, "size");
  if (!mapping->contains(offset, size)) throw_out_of_range(mapping_value.Env(), "offset", "is outside the mapping");
  return {mapping, reinterpret_cast<uint64_t>(mapping->address()) + offset, size};
}

Value set_log_base(const CallbackInfo& info) {
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  Reachable log = to_reachable(info[1], info[2], info[3]);
  // Where it fails, one ring may have the new bitmap and one the old: both are held then.
  handle.held_log.push_back(log.mapping);
  value_or_throw(info.Env(), vhost_set_log_base(handle.fd.get(), log.address));
  handle.held_log.assign(1, log.mapping);
  return info.Env().Undefined();
}

Value set_log_fd(const CallbackInfo& info) {
  value_or_throw(info.Env(), vhost_set_log_fd(to_fd(info[0]), to_fd_or_none(info[1])));
  return info.Env().Undefined();
}

Value send_iotlb(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  Napi::Object object = to_object(info[1], "message");
  uint32_t type = to_uint32(object.Get("type"), "type");
  uint32_t perm = to_uint32(object.Get("perm"), "perm");
  if (type > UINT8_MAX) throw_out_of_range(env, "type", "has more than 8 bits");
  if (perm > UINT8_MAX) throw_out_of_range(env, "perm", "has more than 8 bits");
  uapi::vhost_iotlb_msg message{};
  message.iova = to_uint64(object.Get("iova"), "iova");
  message.size = to_uint64(object.Get("size"), "size");
  message.type = static_cast<uint8_t>(type);
  message.perm = static_cast<uint8_t>(perm);
  if (type == uapi::VHOST_IOTLB_UPDATE) {
    Reachable range = to_reachable(object.Get("mapping"), object.Get("offset"), Value::From(env, message.size));
    message.uaddr = range.address;
    if (std::ranges::find(handle.held_iotlb, range.mapping) == handle.held_iotlb.end())
      handle.held_iotlb.push_back(range.mapping);
  }
  value_or_throw(env, vhost_send_iotlb(handle.fd.get(), message));
  return env.Undefined();
}

Value receive_iotlb(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto message = value_or_throw(env, vhost_receive_iotlb(to_fd(info[0])));
  if (!message) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", Napi::Number::New(env, message->type));
  object.Set("iova", Napi::BigInt::New(env, message->iova));
  object.Set("size", Napi::BigInt::New(env, message->size));
  object.Set("perm", Napi::Number::New(env, message->perm));
  return object;
}

template <auto set>
Value set_vring_state(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_uint32(info[1], "index"), to_uint32(info[2], "value")));
  return info.Env().Undefined();
}

template <auto get>
Value get_vring_state(const CallbackInfo& info) {
  auto state = get(to_fd(info[0]), to_uint32(info[1], "index"));
  return from_number(info.Env(), value_or_throw(info.Env(), std::move(state)));
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
    {"vhostSetFeatures", set_features<vhost_set_features>},
    {"vhostGetFeaturesArray", get_features_array},
    {"vhostSetFeaturesArray", set_features_array},
    {"vhostGetBackendFeatures", get_features<vhost_get_backend_features>},
    {"vhostSetBackendFeatures", set_features<vhost_set_backend_features>},
    {"vhostSetForkFromOwner", set_fork_from_owner},
    {"vhostGetForkFromOwner", get_fork_from_owner},
    {"vhostNewWorker", new_worker},
    {"vhostFreeWorker", free_worker},
    {"vhostAttachVringWorker", set_vring_state<vhost_attach_vring_worker>},
    {"vhostGetVringWorker", get_vring_state<vhost_get_vring_worker>},
    {"vhostSetOwner", set_owner},
    {"vhostResetOwner", reset_owner},
    {"vhostSetMemTable", set_mem_table},
    {"vhostSetLogBase", set_log_base},
    {"vhostSetLogFd", set_log_fd},
    {"vhostSetVringNum", set_vring_state<vhost_set_vring_num>},
    {"vhostSetVringAddr", set_vring_addr},
    {"vhostSetVringBase", set_vring_state<vhost_set_vring_base>},
    {"vhostGetVringBase", get_vring_state<vhost_get_vring_base>},
    {"vhostSetVringEndian", set_vring_state<vhost_set_vring_endian>},
    {"vhostGetVringEndian", get_vring_state<vhost_get_vring_endian>},
    {"vhostSetVringBusyloopTimeout", set_vring_state<vhost_set_vring_busyloop_timeout>},
    {"vhostGetVringBusyloopTimeout", get_vring_state<vhost_get_vring_busyloop_timeout>},
    {"vhostSetVringKick", set_vring_file<vhost_set_vring_kick>},
    {"vhostSetVringCall", set_vring_file<vhost_set_vring_call>},
    {"vhostSetVringErr", set_vring_file<vhost_set_vring_err>},
    {"vhostNetSetBackend", set_vring_file<vhost_net_set_backend>},
    {"vhostSendIotlb", send_iotlb},
    {"vhostReceiveIotlb", receive_iotlb},
};

}  // namespace

void export_vhost(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
