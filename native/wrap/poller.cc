// The poll thread for JavaScript: ids cross to the environment's thread through one thread-safe function.
#include <map>

#include "sys/poll_thread.h"
#include "wrap/convert.h"
#include "wrap/crossing.h"
#include "wrap/exports.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class PollerHandle final : public CrossingHandle<PollThread> {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "poller";
  using CrossingHandle::CrossingHandle;

  std::map<uint32_t, int> fds;
};

std::vector<napi_value> to_arguments(Napi::Env env, const std::vector<uint32_t>& ids) {
  Napi::Array array = Napi::Array::New(env, ids.size());
  for (size_t i = 0; i < ids.size(); i++) array.Set(static_cast<uint32_t>(i), ids[i]);
  return {array};
}

Value create_poller(const CallbackInfo& info) {
  auto crossing = make_crossing(info[0], "ready", "vhost-net poll", call_with<std::vector<uint32_t>, to_arguments>);
  return start_thread<PollerHandle>(info.Env(), crossing, [crossing] {
    return PollThread::start([crossing](std::vector<uint32_t> ids) { cross(crossing, std::move(ids)); });
  });
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
