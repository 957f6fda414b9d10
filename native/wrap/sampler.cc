// The sampler, and other threads' affinity, for JavaScript.
#include "sys/sampler.h"

#include "sys/thread.h"
#include "wrap/convert.h"
#include "wrap/crossing.h"
#include "wrap/exports.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class SamplerHandle final : public CrossingHandle<Sampler> {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "sampler";
  using CrossingHandle::CrossingHandle;
};

std::vector<napi_value> to_arguments(Napi::Env env, const uint32_t& id) { return {Napi::Number::New(env, id)}; }

Value create_sampler(const CallbackInfo& info) {
  auto crossing = make_crossing(info[0], "suspect", "vhost-net watch", call_with<uint32_t, to_arguments>);
  return start_thread<SamplerHandle>(
      info.Env(), crossing, [crossing] { return Sampler::start([crossing](uint32_t id) { cross(crossing, id); }); });
}

size_t to_index(const Mapping& mapping, const Value& value, const char* name) {
  uint64_t offset = to_size(value, name);
  if (offset % 2 != 0 || !mapping.contains(offset, 2)) throw_out_of_range(value.Env(), name, "has no index");
  return offset;
}

Value add(const CallbackInfo& info) {
  SamplerHandle& handle = to_open_handle<SamplerHandle>(info[0]);
  value_or_throw(info.Env(), handle.thread->add(to_uint32(info[1], "id"), to_int32(info[2], "worker")));
  return info.Env().Undefined();
}

Value begin(const CallbackInfo& info) {
  SamplerHandle& handle = to_open_handle<SamplerHandle>(info[0]);
  uint32_t id = to_uint32(info[1], "id");
  std::shared_ptr<Mapping> avail = to_open_handle<MappingHandle>(info[2]).mapping;
  size_t avail_offset = to_index(*avail, info[3], "avail");
  std::shared_ptr<Mapping> used = to_open_handle<MappingHandle>(info[4]).mapping;
  size_t used_offset = to_index(*used, info[5], "used");
  handle.thread->begin(id, {std::move(avail), avail_offset, std::move(used), used_offset});
  return info.Env().Undefined();
}

Value end(const CallbackInfo& info) {
  to_open_handle<SamplerHandle>(info[0]).thread->end(to_uint32(info[1], "id"));
  return info.Env().Undefined();
}

Value remove(const CallbackInfo& info) {
  to_open_handle<SamplerHandle>(info[0]).thread->remove(to_uint32(info[1], "id"));
  return info.Env().Undefined();
}

Value close_sampler(const CallbackInfo& info) {
  to_handle<SamplerHandle>(info[0]).close();
  return info.Env().Undefined();
}

Value set_thread_affinity(const CallbackInfo& info) {
  value_or_throw(info.Env(), set_affinity(to_int32(info[0], "tid"), to_uint32s(info[1], "cpus")));
  return info.Env().Undefined();
}

Value get_thread_affinity(const CallbackInfo& info) {
  auto cpus = value_or_throw(info.Env(), get_affinity(to_int32(info[0], "tid")));
  Napi::Array array = Napi::Array::New(info.Env(), cpus.size());
  for (size_t i = 0; i < cpus.size(); i++) array.Set(static_cast<uint32_t>(i), cpus[i]);
  return array;
}

Value thread_cpu_time(const CallbackInfo& info) {
  auto schedstat = value_or_throw(info.Env(), open_schedstat(to_int32(info[0], "tid")));
  return from_number(info.Env(), static_cast<double>(value_or_throw(info.Env(), cpu_time(schedstat.get()))));
}

constexpr Export kExports[] = {
    {"samplerCreate", create_sampler},
    {"samplerAdd", add},
    {"samplerBegin", begin},
    {"samplerEnd", end},
    {"samplerRemove", remove},
    {"closeSampler", close_sampler},
    {"schedSetaffinity", set_thread_affinity},
    {"schedGetaffinity", get_thread_affinity},
    {"threadCpuTime", thread_cpu_time},
};

}  // namespace

void export_sampler(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
