// The tun ioctls and the offloads of a device for JavaScript.
#include "sys/tun.h"

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

Value get_vnet_le(const CallbackInfo& info) {
  return from_bool(info.Env(), value_or_throw(info.Env(), tun_get_vnet_le(to_fd(info[0]))));
}

Value set_iff(const CallbackInfo& info) {
  return from_interface(info.Env(), tun_set_iff(to_fd(info[0]), to_string(info[1], "name"), to_flags(info[2])));
}

Value get_iff(const CallbackInfo& info) { return from_interface(info.Env(), tun_get_iff(to_fd(info[0]))); }

Value set_queue(const CallbackInfo& info) {
  value_or_throw(info.Env(), tun_set_queue(to_fd(info[0]), to_flags(info[1])));
  return info.Env().Undefined();
}

Value set_offload(const CallbackInfo& info) {
  value_or_throw(info.Env(), tun_set_offload(to_fd(info[0]), to_uint32(info[1], "offload")));
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
    {"tunSetIff", set_iff},
    {"tunGetIff", get_iff},
    {"tunSetQueue", set_queue},
    {"tunSetOffload", set_offload},
    {"tunSetVnetHdrSz", set_int<tun_set_vnet_hdr_sz>},
    {"tunGetVnetHdrSz", get_number<tun_get_vnet_hdr_sz>},
    {"tunSetVnetLe", set_bool<tun_set_vnet_le>},
    {"tunGetVnetLe", get_vnet_le},
    {"tunSetSndbuf", set_int<tun_set_sndbuf>},
    {"tunGetSndbuf", get_number<tun_get_sndbuf>},
    {"tunSetPersist", set_bool<tun_set_persist>},
    {"tunSetCarrier", set_bool<tun_set_carrier>},
    {"ethtoolFeatures", offloads_of},
};

}  // namespace

void export_tun(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
