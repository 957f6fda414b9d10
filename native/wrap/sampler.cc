// The sampler, and other threads' affinity, for JavaScript.
#include "sys/sampler.h"

#include "sys/thread.h"
#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class SamplerHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "sampler";

  // As the poller's: the thread has ended when the function goes.
  SamplerHandle(Napi::Env env, napi_threadsafe_function function) : Handle(env), crossing(function) {}

  napi_threadsafe_function crossing;
  std::unique_ptr<Sampler> sampler;

 private:
  void release() override {
    sampler.reset();
    napi_release_threadsafe_function(crossing, napi_tsfn_abort);
  }
};

// env is null while the function is torn down.
void call_suspect(napi_env env, napi_value suspect, void*, void* data) {
  std::unique_ptr<Sampler::Suspicion> suspicion(static_cast<Sampler::Suspicion*>(data));
  if (env == nullptr) return;
  Napi::HandleScope scope(env);
  try {
    Napi::Function(env, suspect)
        .Call({Napi::Number::New(env, suspicion->id), Napi::Number::New(env, static_cast<double>(suspicion->cpu_ns))});
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

Value create_sampler(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsFunction()) throw_wrong_type(env, "suspect", "is not a function");
  napi_threadsafe_function crossing;
  napi_status status = napi_create_threadsafe_function(env, info[0], nullptr, Napi::String::New(env, "vhost-net watch"),
                                                       0, 1, nullptr, nullptr, nullptr, call_suspect, &crossing);
  if (status != napi_ok) throw Napi::Error::New(env);
  auto handle = std::make_unique<SamplerHandle>(env, crossing);
  napi_unref_threadsafe_function(env, crossing);
  auto sampler = Sampler::start([crossing](Sampler::Suspicion suspicion) {
    auto* data = new Sampler::Suspicion(suspicion);
    if (napi_call_threadsafe_function(crossing, data, napi_tsfn_nonblocking) != napi_ok) delete data;
  });
  if (!sampler.ok()) {
    handle->close();
    throw_error(env, sampler.error());
  }
  handle->sampler = std::move(sampler.value());
  return from_handle(env, std::move(handle));
}

size_t to_index(const Mapping& mapping, const Value& value, const char* name) {
  uint64_t offset = to_size(value, name);
  if (offset % 2 != 0 || !mapping.contains(offset, 2)) throw_out_of_range(value.Env(), name, "has no index");
  return offset;
}

Value add(const CallbackInfo& info) {
  SamplerHandle& handle = to_open_handle<SamplerHandle>(info[0]);
  value_or_throw(info.Env(), handle.sampler->add(to_uint32(info[1], "id"), to_int32(info[2], "worker")));
  return info.Env().Undefined();
}

Value begin(const CallbackInfo& info) {
  SamplerHandle& handle = to_open_handle<SamplerHandle>(info[0]);
  uint32_t id = to_uint32(info[1], "id");
  std::shared_ptr<Mapping> avail = to_open_handle<MappingHandle>(info[2]).mapping;
  size_t avail_offset = to_index(*avail, info[3], "avail");
  std::shared_ptr<Mapping> used = to_open_handle<MappingHandle>(info[4]).mapping;
  size_t used_offset = to_index(*used, info[5], "used");
  handle.sampler->begin(id, {std::move(avail), avail_offset, std::move(used), used_offset});
  return info.Env().Undefined();
}

Value end(const CallbackInfo& info) {
  to_open_handle<SamplerHandle>(info[0]).sampler->end(to_uint32(info[1], "id"));
  return info.Env().Undefined();
}

Value remove(const CallbackInfo& info) {
  to_open_handle<SamplerHandle>(info[0]).sampler->remove(to_uint32(info[1], "id"));
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
