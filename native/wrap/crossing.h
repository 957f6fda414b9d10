// What a thread of this addon has to say, in JavaScript: each message calls a function, in the environment's own
// thread.
#pragma once

#include <napi.h>

#include <memory>
#include <utility>

#include "wrap/convert.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

// It does not keep the process alive. `what` names it to who looks for what does.
inline napi_threadsafe_function make_crossing(const Napi::Value& function, const char* argument, const char* what,
                                              napi_threadsafe_function_call_js call) {
  Napi::Env env = function.Env();
  if (!function.IsFunction()) throw_wrong_type(env, argument, "is not a function");
  napi_threadsafe_function crossing;
  napi_status status = napi_create_threadsafe_function(env, function, nullptr, Napi::String::New(env, what), 0, 1,
                                                       nullptr, nullptr, nullptr, call, &crossing);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, crossing);
  return crossing;
}

// For any thread. Without effect where the environment ends.
template <typename Message>
void cross(napi_threadsafe_function crossing, Message message) {
  auto* data = new Message(std::move(message));
  if (napi_call_threadsafe_function(crossing, data, napi_tsfn_nonblocking) != napi_ok) delete data;
}

// The function that make_crossing takes, where `to_arguments` makes a vector of values from a message.
template <typename Message, auto to_arguments>
void call_with(napi_env env, napi_value function, void*, void* data) {
  std::unique_ptr<Message> message(static_cast<Message*>(data));
  // It is being torn down.
  if (env == nullptr) return;
  Napi::HandleScope scope(env);
  // All of it can throw: in a thread that is being terminated nothing reaches JavaScript any more.
  try {
    Napi::Function(env, function).Call(to_arguments(Napi::Env(env), *message));
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

// A thread and what its messages call. The cleanup hook of a handle is registered after the thread-safe function's own,
// and so runs before it: the thread has ended when the function goes.
template <typename Thread>
class CrossingHandle : public Handle {
 public:
  CrossingHandle(Napi::Env env, napi_threadsafe_function function) : Handle(env), crossing(function) {}

  napi_threadsafe_function crossing;
  std::unique_ptr<Thread> thread;

 private:
  void release() override {
    thread.reset();
    napi_release_threadsafe_function(crossing, napi_tsfn_abort);
  }
};

// A handle for the thread that `start` makes.
template <typename CrossingHandleOfThread, typename Start>
Napi::Value start_thread(Napi::Env env, napi_threadsafe_function crossing, Start start) {
  auto handle = std::make_unique<CrossingHandleOfThread>(env, crossing);
  auto thread = start();
  if (!thread.ok()) {
    handle->close();
    throw_error(env, thread.error());
  }
  handle->thread = std::move(thread.value());
  return from_handle(env, std::move(handle));
}

}  // namespace vhostnet::wrap
