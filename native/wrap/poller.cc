// The poll thread for JavaScript: ids cross to the environment's thread through one thread-safe function.
#include <map>

#include "sys/poll_thread.h"
#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class PollerHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "poller";

  // The handle's cleanup hook is registered after the thread-safe function's own, and so runs before it: the thread has
  // ended when the function goes.
  PollerHandle(Napi::Env env, napi_threadsafe_function function) : Handle(env), crossing(function) {}

  napi_threadsafe_function crossing;
  std::unique_ptr<PollThread> thread;
  std::map<uint32_t, int> fds;

 private:
  void release() override {
    thread.reset();
    napi_release_threadsafe_function(crossing, napi_tsfn_abort);
  }
};

// env is null while the function is torn down: the ids are then only freed.
void call_ready(napi_env env, napi_value ready, void*, void* data) {
  std::unique_ptr<std::vector<uint32_t>> ids(static_cast<std::vector<uint32_t>*>(data));
  if (env == nullptr) return;
  Napi::HandleScope scope(env);
  // All of it can throw: in a thread that is being terminated nothing reaches JavaScript any more.
  try {
    Napi::Array array = Napi::Array::New(env, ids->size());
    for (size_t i = 0; i < ids->size(); i++) array.Set(static_cast<uint32_t>(i), (*ids)[i]);
    Napi::Function(env, ready).Call({array});
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

Value create_poller(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsFunction()) throw_wrong_type(env, "ready", "is not a function");
  napi_threadsafe_function crossing;
  napi_status status = napi_create_threadsafe_function(env, info[0], nullptr, Napi::String::New(env, "vhost-net poll"),
                                                       0, 1, nullptr, nullptr, nullptr, call_ready, &crossing);
  if (status != napi_ok) throw Napi::Error::New(env);
  auto handle = std::make_unique<PollerHandle>(env, crossing);
  napi_unref_threadsafe_function(env, crossing);
  auto thread = PollThread::start([crossing](std::vector<uint32_t> ids) {
    auto* data = new std::vector<uint32_t>(std::move(ids));
    if (napi_call_threadsafe_function(crossing, data, napi_tsfn_nonblocking) != napi_ok) delete data;
  });
  if (!thread.ok()) {
    handle->close();
    throw_error(env, thread.error());
  }
  handle->thread = std::move(thread.value());
  return from_handle(env, std::move(handle));
}

Value add(const CallbackInfo& info) {
  PollerHandle& poller = to_open_handle<PollerHandle>(info[0]);
  uint32_t id = to_uint32(info[1], "id");
  int fd = to_fd(info[2]);
  value_or_throw(info.Env(), poller.thread->add(id, fd));
  poller.fds[id] = fd;
  return info.Env().Undefined();
}

Value rearm(const CallbackInfo& info) {
  PollerHandle& poller = to_open_handle<PollerHandle>(info[0]);
  auto watched = poller.fds.find(to_uint32(info[1], "id"));
  if (watched == poller.fds.end()) throw Napi::Error::New(info.Env(), "the poller has no such id");
  value_or_throw(info.Env(), poller.thread->rearm(watched->first, watched->second));
  return info.Env().Undefined();
}

Value remove(const CallbackInfo& info) {
  PollerHandle& poller = to_open_handle<PollerHandle>(info[0]);
  auto watched = poller.fds.find(to_uint32(info[1], "id"));
  if (watched == poller.fds.end()) throw Napi::Error::New(info.Env(), "the poller has no such id");
  int fd = watched->second;
  poller.fds.erase(watched);
  value_or_throw(info.Env(), poller.thread->remove(fd));
  return info.Env().Undefined();
}

Value set_ref(const CallbackInfo& info) {
  PollerHandle& poller = to_open_handle<PollerHandle>(info[0]);
  if (to_bool(info[1], "keepAlive"))
    napi_ref_threadsafe_function(info.Env(), poller.crossing);
  else
    napi_unref_threadsafe_function(info.Env(), poller.crossing);
  return info.Env().Undefined();
}

Value close_poller(const CallbackInfo& info) {
  to_handle<PollerHandle>(info[0]).close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"pollerCreate", create_poller}, {"pollerAdd", add},     {"pollerRearm", rearm},
    {"pollerRemove", remove},        {"pollerRef", set_ref}, {"closePoller", close_poller},
};

}  // namespace

void export_poller(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
