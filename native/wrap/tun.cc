// The tun ioctls and the offloads of a device for JavaScript.
#include "sys/tun.h"

#include <limits>

#include "sys/ethtool.h"
#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

uint16_t to_flags(const Value& value) {
  uint32_t flags = to_uint32(value, "flags");
  if (flags > UINT16_MAX) throw_out_of_range(value.Env(), "flags", "has more than 16 bits");
  return static_cast<uint16_t>(flags);
}

Value from_interface(Napi::Env env, Result<TunInterface> result) {
  TunInterface interface = value_or_throw(env, std::move(result));
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", interface.name);
  object.Set("flags", Napi::Number::New(env, interface.flags));
  return object;
}

template <auto get>
Value get_number(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), get(to_fd(info[0]))));
}

template <auto set>
Value set_int(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_int32(info[1], "value")));
  return info.Env().Undefined();
}

template <auto set>
Value set_bool(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_bool(info[1], "value")));
  return info.Env().Undefined();
}

template <auto get>
Value get_bool(const CallbackInfo& info) {
  return from_bool(info.Env(), value_or_throw(info.Env(), get(to_fd(info[0]))));
}

template <auto set>
Value set_uint(const CallbackInfo& info) {
  value_or_throw(info.Env(), set(to_fd(info[0]), to_uint32(info[1], "value")));
  return info.Env().Undefined();
}

// A program's number, or null where JavaScript says "none" and the kernel -1.
template <auto set>
Value set_program(const CallbackInfo& info) {
  int program = info[1].IsNull() ? -1 : to_int32(info[1], "program");
  if (program < 0 && !info[1].IsNull()) throw_out_of_range(info.Env(), "program", "is negative");
  value_or_throw(info.Env(), set(to_fd(info[0]), program));
  return info.Env().Undefined();
}

Value set_tx_filter(const CallbackInfo& info) {
  auto addresses = to_bytes(info[2], "addresses");
  if (addresses.size() % 6 != 0 || addresses.size() / 6 > UINT16_MAX)
    throw_out_of_range(info.Env(), "addresses", "is not six bytes each of at most 65535");
  auto exact = tun_set_tx_filter(to_fd(info[0]), to_flags(info[1]), addresses);
  return from_number(info.Env(), value_or_throw(info.Env(), std::move(exact)));
}

template <typename T>
T to_field(const Napi::Object& object, const char* name) {
  uint32_t value = to_uint32(object.Get(name), name);
  if (value > std::numeric_limits<T>::max()) throw_out_of_range(object.Env(), name, "has too many bits");
  return static_cast<T>(value);
}

Value attach_filter(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  if (!info[1].IsArray()) throw_wrong_type(env, "program", "is not an array");
  auto array = info[1].As<Napi::Array>();
  if (array.Length() > UINT16_MAX) throw_out_of_range(env, "program", "has more than 65535 instructions");
  std::vector<sock_filter> program;
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::Object instruction = to_object(array.Get(i), "instruction");
    program.push_back({to_field<uint16_t>(instruction, "code"), to_field<uint8_t>(instruction, "jt"),
                       to_field<uint8_t>(instruction, "jf"), to_field<uint32_t>(instruction, "k")});
  }
  value_or_throw(env, tun_attach_filter(handle.fd.get(), program));
  handle.filter = std::move(program);
  return env.Undefined();
}

Value detach_filter(const CallbackInfo& info) {
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  value_or_throw(info.Env(), tun_detach_filter(handle.fd.get()));
  handle.filter.clear();
  return info.Env().Undefined();
}

Value get_dev_net_ns(const CallbackInfo& info) {
  return from_fd(info.Env(), value_or_throw(info.Env(), tun_get_dev_net_ns(to_fd(info[0]))));
}

Value set_iff(const CallbackInfo& info) {
  return from_interface(info.Env(), tun_set_iff(to_fd(info[0]), to_string(info[1], "name"), to_flags(info[2])));
}

Value get_iff(const CallbackInfo& info) { return from_interface(info.Env(), tun_get_iff(to_fd(info[0]))); }

Value set_queue(const CallbackInfo& info) {
  value_or_throw(info.Env(), tun_set_queue(to_fd(info[0]), to_flags(info[1])));
  return info.Env().Undefined();
}

Value offloads_of(const CallbackInfo& info) {
  auto features = value_or_throw(info.Env(), ethtool_features(to_string(info[0], "ifname")));
  Napi::Object object = Napi::Object::New(info.Env());
  for (const auto& [name, active] : features) object.Set(name, Napi::Boolean::New(info.Env(), active));
  return object;
}

constexpr Export kExports[] = {
    {"tunGetFeatures", get_number<tun_get_features>},
    {"tunSetIfindex", set_uint<tun_set_ifindex>},
    {"tunSetIff", set_iff},
    {"tunGetIff", get_iff},
    {"tunSetQueue", set_queue},
    {"tunSetOffload", set_uint<tun_set_offload>},
    {"tunSetVnetHdrSz", set_int<tun_set_vnet_hdr_sz>},
    {"tunGetVnetHdrSz", get_number<tun_get_vnet_hdr_sz>},
    {"tunSetVnetLe", set_bool<tun_set_vnet_le>},
    {"tunGetVnetLe", get_bool<tun_get_vnet_le>},
    {"tunSetVnetBe", set_bool<tun_set_vnet_be>},
    {"tunGetVnetBe", get_bool<tun_get_vnet_be>},
    {"tunSetSndbuf", set_int<tun_set_sndbuf>},
    {"tunGetSndbuf", get_number<tun_get_sndbuf>},
    {"tunSetPersist", set_bool<tun_set_persist>},
    {"tunSetOwner", set_uint<tun_set_owner>},
    {"tunSetGroup", set_uint<tun_set_group>},
    {"tunSetCarrier", set_bool<tun_set_carrier>},
    {"tunSetLink", set_int<tun_set_link>},
    {"tunSetDebug", set_uint<tun_set_debug>},
    {"tunSetNocsum", set_bool<tun_set_nocsum>},
    {"tunSetTxFilter", set_tx_filter},
    {"tunAttachFilter", attach_filter},
    {"tunDetachFilter", detach_filter},
    {"tunGetFilter", get_number<tun_get_filter>},
    {"tunSetSteeringEbpf", set_program<tun_set_steering_ebpf>},
    {"tunSetFilterEbpf", set_program<tun_set_filter_ebpf>},
    {"tunGetDevNetNs", get_dev_net_ns},
    {"ethtoolFeatures", offloads_of},
};

}  // namespace

void export_tun(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
