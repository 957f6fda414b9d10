// vCPU threads and the bus they share, for JavaScript: requests cross to the environment's thread, and wait there for
// their answer.
#include <algorithm>
#include <iterator>

#include "sys/vcpu_thread.h"
#include "wrap/convert.h"
#include "wrap/crossing.h"
#include "wrap/exports.h"
#include "wrap/handle.h"
#include "wrap/registers.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class BusHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "bus";
  explicit BusHandle(Napi::Env env) : Handle(env), bus(std::make_shared<GuestBus>()) {}

  std::shared_ptr<GuestBus> bus;

 private:
  void release() override { bus.reset(); }
};

class VcpuThreadHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "vCPU thread";

  // As with the poller: this handle's cleanup hook runs before the function's own.
  VcpuThreadHandle(Napi::Env env, napi_threadsafe_function function, const Napi::Value& vcpu, const Napi::Value& end)
      : Handle(env),
        crossing(function),
        ended(Napi::Persistent(end.As<Napi::Function>())),
        vcpu_(Napi::Reference<Napi::Value>::New(vcpu, 1)) {}

  napi_threadsafe_function crossing;
  Napi::FunctionReference ended;
  std::shared_ptr<VcpuThread> thread;

 private:
  // This may be within a request of its own, whose answer the thread then waits for no more.
  void release() override {
    if (thread) thread->stop();
    thread.reset();
    napi_release_threadsafe_function(crossing, napi_tsfn_abort);
    ended.Reset();
    vcpu_.Reset();
  }

  Napi::Reference<Napi::Value> vcpu_;
};

GuestBus::Space to_space(const Value& value) {
  return to_string(value, "space") == "ports" ? GuestBus::Space::kPorts : GuestBus::Space::kMemory;
}

Value create_bus(const CallbackInfo& info) { return from_handle(info.Env(), std::make_unique<BusHandle>(info.Env())); }

Value add_window(const CallbackInfo& info) {
  GuestBus& bus = *to_open_handle<BusHandle>(info[0]).bus;
  GuestBus::Window window{to_size(info[3], "size"), to_uint32(info[4], "id"), nullptr, 0, 0};
  if (!info[5].IsNull()) {
    RegistersHandle& part = to_open_handle<RegistersHandle>(info[5]);
    window.registers = part.registers;
    window.native_offset = to_size(info[6], "offset");
    window.native_size = part.size;
  }
  value_or_throw(info.Env(), bus.add(to_space(info[1]), to_size(info[2], "address"), std::move(window)));
  return info.Env().Undefined();
}

Value add_registers(const CallbackInfo& info) {
  GuestBus& bus = *to_open_handle<BusHandle>(info[0]).bus;
  RegistersHandle& handle = to_open_handle<RegistersHandle>(info[3]);
  GuestBus::Window window{handle.size, 0, handle.registers, 0, handle.size};
  value_or_throw(info.Env(), bus.add(to_space(info[1]), to_size(info[2], "address"), std::move(window)));
  return info.Env().Undefined();
}

Value remove_window(const CallbackInfo& info) {
  GuestBus& bus = *to_open_handle<BusHandle>(info[0]).bus;
  value_or_throw(info.Env(), bus.remove(to_space(info[1]), to_size(info[2], "address")));
  return info.Env().Undefined();
}

Value close_bus(const CallbackInfo& info) {
  to_handle<BusHandle>(info[0]).close();
  return info.Env().Undefined();
}

// What the thread wants of JavaScript: an answer, or to say that it has ended. After the handle is closed env is null.
void call_look(napi_env env, napi_value ask, void*, void* data) {
  if (env == nullptr) return;
  auto& handle = *static_cast<VcpuThreadHandle*>(data);
  // JavaScript may close the handle meanwhile, and let go of it.
  std::shared_ptr<VcpuThread> thread = handle.thread;
  Napi::HandleScope scope(env);
  auto number = [&](auto value) { return Napi::Number::New(env, static_cast<double>(value)); };
  try {
    if (auto request = thread->request()) {
      Value answer =
          Napi::Function(env, ask).Call({number(request->window), number(request->offset), number(request->width),
                                         Napi::Boolean::New(env, request->write), number(request->value)});
      thread->answer(answer.IsNumber() ? answer.As<Napi::Number>().Uint32Value() : UINT32_MAX);
    } else if (auto end = thread->end()) {
      napi_unref_threadsafe_function(env, handle.crossing);
      handle.ended.Value().Call({number(end->exit_reason), number(end->detail), number(end->error)});
    }
  } catch (const Napi::Error& error) {
    thread->answer(UINT32_MAX);
    napi_fatal_exception(env, error.Value());
  }
}

Value start_thread(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  int vcpu = to_fd(info[0]);
  uint32_t run_size = to_uint32(info[1], "runSize");
  uint32_t id = to_uint32(info[2], "id");
  auto bus = to_open_handle<BusHandle>(info[3]).bus;
  if (!info[5].IsFunction()) throw_wrong_type(env, "ended", "is not a function");
  napi_threadsafe_function crossing = make_crossing(info[4], "ask", "vhost-net vCPU", call_look);
  // Until the guest has ended.
  napi_ref_threadsafe_function(env, crossing);
  auto handle = std::make_unique<VcpuThreadHandle>(env, crossing, info[0], info[5]);
  auto thread = VcpuThread::start(vcpu, run_size, id, std::move(bus), [crossing, raw = handle.get()] {
    // Refused only once the handle is being closed, and then nobody waits.
    static_cast<void>(napi_call_threadsafe_function(crossing, raw, napi_tsfn_nonblocking));
  });
  if (!thread.ok()) {
    handle->close();
    throw_error(env, thread.error());
  }
  handle->thread = std::move(thread.value());
  return from_handle(env, std::move(handle));
}

Value pause(const CallbackInfo& info) {
  to_open_handle<VcpuThreadHandle>(info[0]).thread->pause();
  return info.Env().Undefined();
}

Value resume(const CallbackInfo& info) {
  to_open_handle<VcpuThreadHandle>(info[0]).thread->resume();
  return info.Env().Undefined();
}

Value counters(const CallbackInfo& info) {
  const VcpuThread::Counters& from = to_open_handle<VcpuThreadHandle>(info[0]).thread->counters();
  auto target = to_doubles(info[1], "counters");
  const uint64_t values[] = {from.exits, from.port_accesses, from.memory_accesses, from.unmapped, from.asked};
  if (target.size() < std::size(values)) throw_out_of_range(info.Env(), "counters", "is too short");
  std::copy(std::begin(values), std::end(values), target.begin());
  return info.Env().Undefined();
}

Value close_thread(const CallbackInfo& info) {
  to_handle<VcpuThreadHandle>(info[0]).close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"busCreate", create_bus},
    {"busAdd", add_window},
    {"busAddRegisters", add_registers},
    {"busRemove", remove_window},
    {"closeBus", close_bus},
    {"vcpuStart", start_thread},
    {"vcpuPause", pause},
    {"vcpuResume", resume},
    {"vcpuCounters", counters},
    {"closeVcpuThread", close_thread},
};

}  // namespace

void export_vcpu(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
